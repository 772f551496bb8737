import assert from 'node:assert/strict'
import { test } from 'node:test'
import Anthropic, { BadRequestError, NotFoundError } from '@anthropic-ai/sdk'
import { gathered, hello, idle, paris, pixel, thought, url, user, weather } from './data.mjs'

const client = new Anthropic({ baseURL: url, apiKey: 'unused', maxRetries: 0 })
const tiny = { model: 'tiny', max_tokens: 200, top_k: 1 }
const tools = [{ name: weather.name, description: weather.description, input_schema: weather.parameters }]
const plain = { thinking: { type: 'disabled' } }
const textOf = (message) => message.content.filter((block) => block.type === 'text').map((block) => block.text).join('')
const read = ({ usage }) => usage.input_tokens + (usage.cache_read_input_tokens ?? 0) // as the client's documentation adds

test('an answer comes whole and in pieces', async () => {
  const whole = await client.messages.create({ ...tiny, ...plain, messages: [user('Hello')] })
  assert.deepEqual([textOf(whole), whole.stop_reason, whole.role], [hello, 'end_turn', 'assistant'])
  const stream = client.messages.stream({ ...tiny, ...plain, messages: [user('Hello')] })
  const events = await gathered(stream)
  const deltas = events.filter((event) => event.delta?.type === 'text_delta')
  assert.equal(deltas.map((event) => event.delta.text).join(''), hello)
  assert.deepEqual((await stream.finalMessage()).usage.output_tokens, whole.usage.output_tokens)
  assert.deepEqual([read(events[0].message), read(whole)], [9, 9])
})

test('thoughts are blocks with a signature', async () => {
  const asked = { ...tiny, thinking: { type: 'enabled', budget_tokens: 1024 }, max_tokens: 1500 }
  const whole = await client.messages.create({ ...asked, messages: [user('What is 2 + 3?')] })
  assert.deepEqual([whole.content[0].type, whole.content[0].thinking], ['thinking', thought])
  assert.equal(typeof whole.content[0].signature, 'string')
  assert.equal(textOf(whole), '2 + 3 = 5')
  const streamed = await client.messages.stream({ ...asked, messages: [user('What is 2 + 3?')] }).finalMessage()
  assert.equal(streamed.content[0].thinking, thought)
})

test('a tool is called and its result is used', async () => {
  const whole = await client.messages.create({ ...tiny, tools, messages: [user(paris)] })
  const streamed = await client.messages.stream({ ...tiny, tools, messages: [user(paris)] }).finalMessage()
  for (const message of [whole, streamed]) {
    const call = message.content.find((block) => block.type === 'tool_use')
    assert.deepEqual([message.stop_reason, call.name, call.input], ['tool_use', 'get_weather', { city: 'Paris' }])
    const result = { type: 'tool_result', tool_use_id: call.id, content: '21 degrees' }
    const messages = [user(paris), { role: 'assistant', content: message.content }, user([result])]
    assert.match(textOf(await client.messages.create({ ...tiny, tools, messages })), /21 degrees/)
  }
})

test('a limit and a stop sequence are told apart', async () => {
  const cut = await client.messages.create({ ...tiny, ...plain, max_tokens: 2, messages: [user('Hello')] })
  assert.equal(cut.stop_reason, 'max_tokens')
  const stopped = await client.messages.create({ ...tiny, ...plain, stop_sequences: ['How'], messages: [user('Hello')] })
  assert.deepEqual([stopped.stop_reason, stopped.stop_sequence, textOf(stopped)], ['stop_sequence', 'How', 'Hello! '])
})

test('tokens are counted without an answer', async () => {
  const messages = [user('Hello')]
  const answer = await client.messages.create({ ...tiny, ...plain, messages })
  const { input_tokens } = await client.messages.countTokens({ model: 'tiny', messages, ...plain })
  assert.deepEqual([input_tokens, read(answer)], [9, 9])
})

test('models are listed in the shape of this client', async () => {
  const models = await gathered(client.models.list())
  assert(models.some((model) => model.id === 'tiny:latest' && model.type === 'model' && model.display_name))
})

test('refusals are errors of the client with a status and a sentence', async () => {
  const image = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: pixel } }
  await assert.rejects(client.messages.create({ ...tiny, messages: [user([image])] }), (error) => {
    assert(error instanceof BadRequestError)
    assert.match(error.message, /does not support images/)
    return true
  })
  await assert.rejects(client.messages.create({ ...tiny, model: 'nope', messages: [user('Hello')] }), (error) => {
    assert(error instanceof NotFoundError)
    assert.match(error.message, /model 'nope' not found/)
    assert(error.requestID)
    return true
  })
})

test('an answer that is aborted frees its slot', async () => {
  const stream = client.messages.stream({ model: 'endless', max_tokens: 16000, messages: [user('[7]')] })
  for await (const event of stream) if (event.type === 'content_block_delta') break
  stream.abort()
  await idle('endless')
})

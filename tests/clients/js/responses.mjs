import assert from 'node:assert/strict'
import { test } from 'node:test'
import OpenAI, { NotFoundError } from 'openai'
import { zodTextFormat } from 'openai/helpers/zod'
import { z } from 'zod'
import { ada, gathered, hello, idle, paris, thought, url, weather } from './data.mjs'

const { responses } = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0 })
const tiny = { model: 'tiny', temperature: 0 }
const tools = [{ type: 'function', strict: false, ...weather }]

test('a response comes whole and as events', async () => {
  const whole = await responses.create({ ...tiny, input: 'Hello' })
  assert.deepEqual([whole.output_text, whole.status, whole.usage.total_tokens], [hello, 'completed', 33])
  const events = await gathered(await responses.create({ ...tiny, input: 'Hello', stream: true }))
  const deltas = events.filter((event) => event.type === 'response.output_text.delta')
  assert.equal(deltas.map((event) => event.delta).join(''), hello)
  assert.deepEqual(events.map((event) => event.sequence_number), events.map((_, index) => index))
  const final = await responses.stream({ ...tiny, input: 'Hello' }).finalResponse()
  assert.equal(final.output_text, hello)
})

test('thoughts are items of their own', async () => {
  const { output } = await responses.create({ ...tiny, input: 'What is 2 + 3?', reasoning: { summary: 'auto' } })
  assert.equal(output.find((item) => item.type === 'reasoning').summary[0].text, thought)
})

test('a limit leaves the response incomplete', async () => {
  const { status, incomplete_details } = await responses.create({ ...tiny, input: 'Hello', max_output_tokens: 16 })
  assert.deepEqual([status, incomplete_details.reason], ['incomplete', 'max_output_tokens'])
})

test('a tool is called and its result is used', async () => {
  const first = await responses.create({ ...tiny, input: paris, tools })
  const call = first.output.find((item) => item.type === 'function_call')
  assert.deepEqual([call.name, JSON.parse(call.arguments)], ['get_weather', { city: 'Paris' }])
  const result = { type: 'function_call_output', call_id: call.call_id, output: '21 degrees' }
  const input = [{ role: 'user', content: paris }, ...first.output, result]
  assert.match((await responses.create({ ...tiny, input, tools })).output_text, /21 degrees/)
  const asked = { ...tiny, previous_response_id: first.id, input: [result], tools }
  assert.match((await responses.create(asked)).output_text, /21 degrees/)
})

test('an answer has the form that was asked for', async () => {
  const format = zodTextFormat(z.object({ name: z.string(), age: z.number().int() }), 'person')
  const { output_parsed } = await responses.parse({ ...tiny, input: ada, text: { format } })
  assert.deepEqual(output_parsed, { name: 'Ada', age: 36 })
})

test('a response is kept until it is deleted', async () => {
  const { id } = await responses.create({ ...tiny, input: 'Hello' })
  assert.equal((await responses.retrieve(id)).output_text, hello)
  await responses.delete(id)
  await assert.rejects(responses.retrieve(id), NotFoundError)
  await assert.rejects(responses.create({ model: 'nope', input: 'Hello' }), NotFoundError)
})

test('a response that is left frees its slot', async () => {
  for await (const event of await responses.create({ model: 'endless', input: '[7]', stream: true })) {
    if (event.type.endsWith('.delta')) break
  }
  await idle('endless')
})

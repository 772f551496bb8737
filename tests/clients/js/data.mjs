// What Tiny can do, as the clients ask for it, and how the server looks from outside. test_javascript.py sets the variables.
import assert from 'node:assert/strict'

export const url = process.env.CORRAL_URL
export const minilm = process.env.CORRAL_EMBEDDING // unset where the model is not installed
export const greedy = { temperature: 0 }
export const hello = 'Hello! How can I help you?'
export const thought = 'I have to add 2 and 3. The result is 5.\n'
export const ada = 'Give name, age as JSON: Ada is 36 years old and lives in Paris.'
export const paris = 'What is the weather in Paris?'
export const weather = {
  name: 'get_weather',
  description: 'Get the current weather for a city',
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
}
export const person = {
  type: 'object',
  properties: { name: { type: 'string' }, age: { type: 'integer' } },
  required: ['name', 'age'],
  additionalProperties: false,
}
export const pixel =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='

export const user = (content) => ({ role: 'user', content })
export const dot = (one, other) => one.reduce((sum, value, index) => sum + value * other[index], 0)

export async function gathered(pieces) {
  const all = []
  for await (const piece of pieces) all.push(piece)
  return all
}

// Resolves when no slot of the model is held; an answer of `endless` would hold its own for half a minute.
export async function idle(model) {
  const deadline = performance.now() + 10_000
  for (;;) {
    const numbers = await (await fetch(`${url}/metrics`)).text()
    const held = numbers.match(new RegExp(`^corral_engine_requests{model="${model}:latest"} (\\S+)$`, 'm'))
    assert(held, `no engine of ${model}`)
    if (Number(held[1]) === 0) return
    assert(performance.now() < deadline, `the slot of ${model} is still held`)
  }
}

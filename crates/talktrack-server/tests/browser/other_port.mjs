// A logged-in user opens a page of another program on another port of the same machine. To the browser it belongs to
// the same site, so the browser sends the cookie with its requests. They must have no effect, and the dashboard must
// still work.

import { createServer } from 'node:http'

import { assert, base, browse, until } from './lib.mjs'

const { API_KEY: key } = process.env

// The attempts of the page. Each returns its outcome.
const attacks = async ({ base, session }) => {
  const path = `${base}/v1/sessions/${session}`
  const withCookie = { credentials: 'include' }
  const attempt = (address, options) =>
    fetch(address, { ...withCookie, ...options }).then((answer) => `${answer.type} ${answer.status}`, (error) => `${error.name}`)
  const socket = (protocols) =>
    new Promise((resolve) => {
      const query = `user_id=${crypto.randomUUID()}`
      const socket = new WebSocket(`${base.replace('http', 'ws')}/v1/ws?${query}`, protocols)
      socket.onopen = () => resolve('open')
      socket.onerror = () => resolve('refused')
    })
  const stream = new Promise((resolve) => {
    const source = new EventSource(`${base}/v1/events`, { withCredentials: true })
    source.onopen = () => resolve('open')
    source.onerror = () => resolve('refused')
  })
  const form = new URLSearchParams({ reason: 'data' })
  return {
    'reads a page': await attempt(`${base}/`),
    'reads the API': await attempt(`${path}/messages`),
    'deletes': await attempt(path, { method: 'DELETE' }),
    'ends': await attempt(`${path}/end`, { method: 'POST', body: '{}', mode: 'no-cors' }),
    'sends a form': await attempt(`${base}/sessions/${session}/delete`, { method: 'POST', body: form, mode: 'no-cors' }),
    'drops letters': await attempt(`${base}/health/drop`, { method: 'POST', body: form, mode: 'no-cors' }),
    'logs out': await attempt(`${base}/logout`, { method: 'POST', body: form, mode: 'no-cors' }),
    'talks': await socket([]),
    'talks with a token': await socket(['talktrack', 'csrf.AAAA']),
    'listens': await stream,
  }
}

await browse(async (visit) => {
  const { page, context } = visit
  await visit.open('/')
  await page.getByLabel('Token').fill(key)
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.waitForURL((url) => url.pathname === '/')
  const href = await page.locator('li.session a.cover').first().getAttribute('href')
  const session = href.split('/')[2].split('?')[0]

  const elsewhere = createServer((_, answer) => {
    answer.setHeader('content-type', 'text/html')
    answer.end(`<form method="post" action="${base}/sessions/${session}/delete"><button>Look at kittens</button></form>`)
  })
  await new Promise((resolve) => elsewhere.listen(0, '127.0.0.1', resolve))
  try {
    const evil = await context.newPage()
    await evil.goto(`http://127.0.0.1:${elsewhere.address().port}/`)
    const outcome = await evil.evaluate(attacks, { base, session })
    // The request is sent, but the browser withholds the response (Cross-Origin-Resource-Policy).
    const blind = 'TypeError'
    assert.deepEqual(outcome, {
      'reads a page': 'TypeError',
      'reads the API': 'TypeError',
      'deletes': 'TypeError',
      'ends': blind,
      'sends a form': blind,
      'drops letters': blind,
      'logs out': blind,
      'talks': 'refused',
      'talks with a token': 'refused',
      'listens': 'refused',
    })
    // A form that the user is tricked into sending.
    const [answer] = await Promise.all([
      evil.waitForResponse((answer) => answer.request().method() === 'POST'),
      evil.getByRole('button').click(),
    ])
    assert.equal(answer.status(), 403)
    await evil.close()
  } finally {
    elsewhere.close()
  }

  // The conversation is unchanged, and the login is still valid. The dashboard's own page may do what the other page
  // could not.
  await visit.open(href)
  const told = await page.evaluate(async (path) => (await (await fetch(path)).json()).status, `/v1/sessions/${session}`)
  assert.equal(told, 'ended')
  const state = () => page.locator('#state').innerText()
  await visit.open('/talk')
  await page.locator('#start').click()
  await until('our own page talks', async () => (await state()) === 'connected')
  await page.locator('#words').fill('hello')
  await page.keyboard.press('Enter')
  await until('what it says is durable', async () => {
    const acks = await page.locator('#transcript .ack').allInnerTexts()
    return acks.length > 0 && acks.every((ack) => /^durable after \d/.test(ack))
  })
  await visit.open(`/sessions/${session}/delete`)
  await page.getByRole('button', { name: 'Delete it' }).click()
  await page.getByText('The conversation is deleted').waitFor()
})

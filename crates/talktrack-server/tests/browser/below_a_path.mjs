// The pages behind a proxy that serves them as a part of another site, below a path. The proxy removes the path and
// names it in `X-Forwarded-Prefix`.

import { createServer, request } from 'node:http'
import { randomUUID } from 'node:crypto'

import { assert, base, browse, until } from './lib.mjs'

const PREFIX = '/tools/talktrack'
const { API_KEY: key } = process.env

// Requests for other paths of the site.
const strays = []

function forward({ method, url, headers }) {
  if (!url.startsWith(`${PREFIX}/`)) return void strays.push(url)
  const { hostname, port } = new URL(base)
  return request({ hostname, port, method, path: url.slice(PREFIX.length), headers: { ...headers, 'x-forwarded-prefix': PREFIX } })
}

const proxy = createServer((asked, answer) => {
  const onwards = forward(asked)
  if (!onwards) return answer.writeHead(404).end()
  onwards.on('response', (answered) => {
    answer.writeHead(answered.statusCode, answered.headers)
    answered.pipe(answer)
  })
  onwards.on('error', () => answer.destroy())
  answer.on('close', () => onwards.destroy())
  asked.pipe(onwards)
})
proxy.on('upgrade', (asked, socket) => {
  const onwards = forward(asked)
  if (!onwards) return socket.destroy()
  onwards.on('upgrade', ({ rawHeaders }, upstream, head) => {
    const lines = rawHeaders.map((text, index) => (index % 2 ? `${text}\r\n` : `${text}: `))
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('')}\r\n`)
    socket.write(head)
    upstream.pipe(socket).pipe(upstream)
    for (const end of [upstream, socket]) end.on('error', () => end.destroy())
  })
  onwards.on('error', () => socket.destroy())
  onwards.end()
})
await new Promise((listening) => proxy.listen(0, '127.0.0.1', listening))
const site = `http://127.0.0.1:${proxy.address().port}`
const agent = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
const post = async (path, body) => {
  const answer = await fetch(`${base}${path}`, { method: 'POST', headers: agent, body: JSON.stringify(body) })
  assert.ok(answer.ok, `${path}: ${answer.status}`)
  return answer.json()
}

await browse(async (visit) => {
  const { page } = visit
  const user = randomUUID()
  const { session_id: session } = await post('/v1/sessions', { user_id: user })
  const say = (content) => post(`/v1/sessions/${session}/messages`, { role: 'user', content })
  await say('Good morning')

  // The login leads to the page that was wanted.
  await visit.open(`${site}${PREFIX}/stats`)
  assert.equal(new URL(page.url()).pathname, `${PREFIX}/login`)
  await page.getByLabel('Token').fill(key)
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.waitForURL(`${site}${PREFIX}/stats`)

  // The list and a conversation follow what happens.
  await page.getByRole('link', { name: 'Conversations' }).click()
  await page.waitForURL(`${site}${PREFIX}/`)
  await say('Is anybody there?')
  await page.locator('.session').getByText('Is anybody there?').waitFor()
  await page.locator('a.cover').click()
  await page.waitForURL(`${site}${PREFIX}/sessions/${session}`)
  await say('Hello?')
  await page.getByText('Hello?', { exact: true }).waitFor()
  await page.locator('.menu summary').click()
  const coming = page.waitForEvent('download')
  await page.getByRole('link', { name: /JSON lines/ }).click()
  assert.equal(await (await coming).failure(), null)
  await visit.axe('a conversation below a path')

  // Talking uses a WebSocket, and the health page asks again and again.
  await page.getByRole('link', { name: 'Talk', exact: true }).click()
  await page.waitForURL(`${site}${PREFIX}/talk`)
  assert.ok((await page.getByRole('main').innerText()).includes(`${site.replace('http', 'ws')}${PREFIX}/v1/ws`))
  await page.locator('#start').click()
  await until('the page talks', async () => (await page.locator('#state').innerText()) === 'connected')
  await page.locator('#words').fill('hello')
  await page.keyboard.press('Enter')
  await until('what it says is durable', async () => {
    const acks = await page.locator('#transcript .ack').allInnerTexts()
    return acks.length > 0 && acks.every((ack) => /^durable after \d/.test(ack))
  })
  const recorded = await page.locator('#recorded').getAttribute('href')
  assert.ok(recorded.startsWith(`${PREFIX}/sessions/`), recorded)
  await page.locator('#end').click()
  await page.getByRole('link', { name: 'Health' }).click()
  await page.waitForURL(`${site}${PREFIX}/health`)
  await page.waitForResponse(`${site}${PREFIX}/health/figures`)

  // A form, and a redirect after it.
  await visit.open(`${site}${PREFIX}/sessions/${session}/delete`)
  await page.getByRole('button', { name: 'Delete it' }).click()
  await page.getByText('The conversation is deleted').waitFor()
  await page.getByRole('button', { name: 'Log out' }).click()
  await page.waitForURL(`${site}${PREFIX}/login`)
  assert.deepEqual(strays.filter((path) => path !== '/favicon.ico'), [], 'every address is below the path')
}).finally(() => proxy.close() && proxy.closeAllConnections())

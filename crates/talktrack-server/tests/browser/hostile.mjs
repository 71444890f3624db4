// Hostile text is shown literally and has no effect.

import { randomUUID } from 'node:crypto'

import { Agent, assert, browse, until } from './lib.mjs'

const OWNED = 'window.isOwned=true'
const HOSTILE = [
  `<script>${OWNED}</script>`,
  `<img src=x onerror="${OWNED}">`,
  `</textarea></p></li></ol></main><script>${OWNED}</script>`,
  `"><svg/onload=${OWNED}>`,
  `<a href="javascript:${OWNED}">click me</a>`,
  `<style>body{display:none}</style><base href="https://evil.example/"><meta http-equiv=refresh content=0>`,
  `{{ 7*7 }} {% include "x" %} &lt;b&gt; &amp; %3Cscript%3E \${${OWNED}}`,
  `\u202Eevil\u202C \u2066isolated ends never and \u0007 rings`,
  'W'.repeat(4000),
  `${'ﷺ'.repeat(200)} ${'👩‍👩‍👧‍👦'.repeat(100)}`,
  '<!-- <b> ]]> \u2028 \u2029 \\u003cscript\\u003e',
]

const agent = await Agent.connect({ user_id: randomUUID(), external_id: `<b onclick=${OWNED}>"'&` })
for (const content of HOSTILE) await agent.say('user', content)
await agent.say('assistant', HOSTILE[0], { interrupted: true, content_generated: HOSTILE[0] + HOSTILE[1] })
await agent.say('tool', HOSTILE[1], { kind: 'tool_result', parts: HOSTILE, metadata: Object.fromEntries(HOSTILE.slice(0, 8).map((text) => [text, text])) })
await agent.say('user', 'Recorded', { audio_url: `javascript:${OWNED}` })
await agent.say('user', 'Recorded', { audio_url: `"><script>${OWNED}</script>` })
agent.socket.send(JSON.stringify({ type: 'session.update', metadata: { [HOSTILE[0]]: HOSTILE[1], audio_url: `javascript:${OWNED}` } }))

await browse(async (visit, another) => {
  const { page } = visit
  page.on('dialog', () => assert.fail('a dialog was opened'))

  // No part of the text has become an element, has run or has caused a request.
  const isHarmless = async (visit, path) => {
    const told = await visit.page.evaluate(() => ({
      owned: Boolean(window.isOwned),
      foreign: [...document.querySelectorAll('main script, main img, main style, main textarea, base, meta[http-equiv], [onclick], [onerror], [onload], [href^="javascript"], [src^="javascript"]')].map((one) => one.outerHTML),
      visible: getComputedStyle(document.body).display,
    }))
    assert.deepEqual(told, { owned: false, foreign: [], visible: 'block' }, path)
    assert.equal(new URL(visit.page.url()).pathname, path.split('?')[0])
    await visit.fits()
  }
  const place = `/sessions/${agent.session}`
  await visit.open(place)
  await isHarmless(visit, place)
  const shown = await page.locator('.said.user .words').evaluateAll((all) => all.map((one) => one.textContent))
  assert.deepEqual(shown.slice(0, HOSTILE.length), HOSTILE)
  for (const folded of await page.locator('details').all()) await folded.evaluate((one) => (one.open = true))
  await isHarmless(visit, place)
  await visit.axe('hostile words')

  // Messages that arrive while the page is open are inserted by other code.
  for (const content of HOSTILE) await agent.say('assistant', content)
  await until('all of it is there', async () => (await page.locator('.said.agent').count()) > HOSTILE.length)
  const came = await page.locator('.said.agent .words').evaluateAll((all) => all.map((one) => one.textContent))
  assert.deepEqual(came.slice(-HOSTILE.length), HOSTILE)
  await isHarmless(visit, place)

  // Unclosed direction marks must not reverse the text next to them.
  await visit.open('/')
  await isHarmless(visit, '/')
  const query = await visit.search(`"><script>${OWNED}</script>`)
  await isHarmless(visit, query)
  assert.equal(await page.getByLabel('Search what was said').inputValue(), `"><script>${OWNED}</script>`)

  const phone = await another({ size: 'phone', scheme: 'dark' })
  for (const path of [place, '/', query]) {
    await phone.open(path)
    await isHarmless(phone, path)
  }
  await agent.end(HOSTILE[1])
  await visit.open(place)
  await isHarmless(visit, place)
})

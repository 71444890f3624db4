// A conversation: read, played, copied, exported and deleted.

import { api, assert, browse, until } from './lib.mjs'

const { sessions } = await api('GET', '/v1/sessions?limit=500')
const booking = sessions.find(({ metadata }) => metadata.agent === 'trattoria-bookings' && metadata.audio_url)
const isRecorded = process.env.RECORDED === 'yes'
assert.equal(Boolean(booking), isRecorded)
const session = booking ?? sessions.find(({ metadata }) => metadata.agent === 'trattoria-bookings')
const { messages } = await api('GET', `/v1/sessions/${session.session_id}/messages?limit=500`)
const place = `/sessions/${session.session_id}`

await browse(async (visit) => {
  const { page } = visit
  await visit.context.grantPermissions(['clipboard-read', 'clipboard-write'])
  const said = (message) => page.locator(`id=m-${message.id}`)
  const lit = () => page.locator('.said.playing').evaluateAll((all) => all.map((one) => one.id))

  await visit.open(place)
  await reads(visit, said)
  await visit.axe('a conversation')
  await visit.fits()
  await visit.shot('conversation')
  if (isRecorded) {
    await plays(visit, said, lit)
    await playsAll(visit, lit)
  }
  await copies(visit)
  await exports(visit)
  await deletes(visit)
})

// The page shows the messages in order, the words that the user did not hear, the tool calls (folded), and the time to
// each answer.
async function reads({ page }, said) {
  const order = await page.locator('.said').evaluateAll((all) => all.map((one) => one.id))
  assert.deepEqual(order, messages.map(({ id }) => `m-${id}`))
  const cut = messages.find(({ interrupted }) => interrupted)
  const unheard = await said(cut).locator('del').innerText()
  assert.ok(unheard.endsWith(cut.content_generated.slice(cut.content.length).trim()), unheard)
  assert.ok((await said(cut).locator('.words').innerText()).startsWith(cut.content))
  const call = messages.find(({ kind }) => kind === 'tool_call')
  const folded = said(call).locator('details')
  assert.equal(await folded.getAttribute('open'), null)
  assert.match(await said(call).innerText(), /check_tables/)
  await folded.locator('summary').click()
  assert.match(await folded.innerText(), /"people": 4/)
  const answer = messages.find(({ metrics }) => metrics?.e2e_ms)
  assert.match(await said(answer).getByRole('img').getAttribute('aria-label'), /end of speech .*first token .*in all/)
  await page.getByText('Details', { exact: true }).click()
  assert.ok(await page.getByText(session.metadata.caller).isVisible())
  await page.getByText('Details', { exact: true }).click()
}

// A message can be played and paused, and is highlighted while it plays.
async function plays({ page }, said, lit) {
  // A long message, so that it still plays while the test checks it.
  const length = ({ metrics }) => metrics.audio_end_ms - metrics.audio_start_ms
  const [long] = messages.filter(({ audio_url }) => audio_url).sort((one, other) => length(other) - length(one))
  await said(long).getByText('Play').click()
  await until('the message is heard', () => page.locator('#player audio').evaluate((audio) => audio.currentTime > 0.05))
  assert.deepEqual(await lit(), [`m-${long.id}`])
  await said(long).getByText('Pause').click()
  await until('nothing is lit', async () => (await lit()).length === 0)
  assert.ok(await page.locator('#player audio').evaluate((audio) => audio.paused))
}

// While the whole recording plays, each message is highlighted in turn.
async function playsAll({ page }, lit) {
  const spoken = messages.filter(({ metrics }) => metrics?.audio_start_ms)
  const recording = page.locator('#recording')
  for (const { id, metrics } of [spoken[2], spoken[0]]) {
    // Seeks back to the start of the message if it is over before the test has checked it.
    const play = () => recording.evaluate(async (audio, [start, end]) => {
      const at = audio.currentTime * 1000
      if (audio.paused || at < start || at > end - 300) audio.currentTime = (start + 150) / 1000
      await audio.play()
    }, [metrics.audio_start_ms, metrics.audio_end_ms])
    await until('the message that is heard is lit', async () => {
      await play()
      return (await lit()).join() === `m-${id}`
    })
  }
  await recording.evaluate((audio) => audio.pause())
  await until('nothing is lit', async () => (await lit()).length === 0)
}

async function copies({ page }) {
  const button = page.getByRole('button', { name: 'Copy the transcript' })
  await button.click()
  const told = await until('it is copied', () => page.evaluate(() => navigator.clipboard.readText()))
  assert.ok(told.includes(messages.find(({ role }) => role === 'user').content), told)
  await page.getByRole('button', { name: 'Copy the link' }).click()
  await until('the link is copied', async () => (await page.evaluate(() => navigator.clipboard.readText())).endsWith(place))
}

async function exports({ page }) {
  await page.locator('.menu summary').click()
  const coming = page.waitForEvent('download')
  await page.getByRole('link', { name: /JSON lines/ }).click()
  const file = await (await coming).createReadStream()
  let text = ''
  for await (const piece of file) text += piece
  const lines = text.trim().split('\n').map((line) => JSON.parse(line))
  assert.equal(lines[0].type, 'session.start')
  assert.equal(lines.filter(({ type }) => type === 'message').length, messages.length)
}

// The page names what will be deleted before the user confirms.
async function deletes(visit) {
  const { page } = visit
  await visit.open(place)
  await page.getByRole('link', { name: 'Delete…' }).click()
  await page.waitForURL(/\/delete$/)
  const named = await page.getByRole('main').innerText()
  assert.match(named, new RegExp(`${messages.length} messages`))
  assert.match(named, /recordings/)
  await visit.axe('the question before a deletion')
  await visit.fits()
  await visit.shot('delete')
  await page.getByRole('link', { name: 'Keep it' }).click()
  await page.waitForURL((url) => url.pathname === place)
  await page.getByRole('link', { name: 'Delete…' }).click()
  await page.getByRole('button', { name: 'Delete it' }).click()
  assert.ok(await page.getByRole('heading', { name: 'The conversation is deleted' }).isVisible())
  assert.match(await page.getByRole('main').innerText(), new RegExp(`${messages.length} messages`))
  await visit.axe('what was deleted')
  const answer = await page.goto(place)
  assert.ok([404, 410].includes(answer.status()), `${answer.status()}`)
  await visit.complained(answer.status())
  await visit.axe('a conversation that is not there')
  await visit.open('/')
  assert.equal(await page.locator(`id=s-${session.session_id}`).count(), 0)
}

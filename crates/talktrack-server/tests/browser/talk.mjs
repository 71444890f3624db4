// A user talks with the echo agent: by typing and with Chromium's microphone, which beeps twice a second. The user
// interrupts the agent, loses the connection, and reads along on the page of the conversation.

import { api, assert, browse, until } from './lib.mjs'

// Long enough to be interrupted, even on a busy machine.
const LONG = Array.from({ length: 100 }, (_, number) => `word${number}`).join(' ')

const said = (page) => page.locator('#transcript > .said')
const state = (page) => page.locator('#state').innerText()

async function say(page, words) {
  await page.locator('#words').fill(words)
  await page.keyboard.press('Enter')
}

// Returns the last message after the agent has finished and the last revision of each message is durable.
async function ended(page) {
  await page.locator('#cut').waitFor({ state: 'hidden' })
  await durable(page)
  return said(page).last()
}

// Waits until the page shows every message as durable. A message with a revision that is not durable yet is busy.
async function durable(page) {
  await until('everything is durable', async () => {
    const acks = await page.locator('#transcript .ack').allInnerTexts()
    const busy = await page.locator('#transcript > [aria-busy]').count()
    return acks.length > 0 && busy === 0 && acks.every((ack) => /^durable after \d/.test(ack))
  })
}

const messagesOf = async (session) => (await api('GET', `/v1${session}/messages`)).messages

await browse(async (visit, open) => {
  const { page } = visit
  // The connections to the server, which the test can cut.
  const way = { isCut: false, sockets: [] }
  await page.routeWebSocket(/\/v1\/ws/, (socket) => {
    if (way.isCut) return socket.close({ code: 1011 })
    const server = socket.connectToServer()
    way.sockets.push({ socket, server })
  })
  const cut = async () => {
    way.isCut = true
    for (const { socket, server } of way.sockets.splice(0)) await Promise.all([socket.close({ code: 1011 }), server.close()])
  }

  await visit.open('/talk')
  await visit.axe('/talk')
  assert.match(await page.locator('main').innerText(), /The agent here is an echo/)
  await page.locator('#with-cutting').uncheck()
  await page.locator('#start').click()
  await until('it is connected', async () => (await state(page)) === 'connected')
  const session = await page.locator('#recorded').getAttribute('href')
  await until('it says how to go on', async () => /Speak|speak/.test(await page.locator('#ears').innerText()))

  // ---- The page of the conversation shows the answer while it is spoken, and where it was interrupted.
  const beside = await open()
  await beside.open(session)
  const words = beside.page.locator('.said.agent .words')
  await say(page, LONG)
  await until('it appears word by word', async () => {
    const shown = await words.allInnerTexts()
    return shown.length === 1 && shown[0].startsWith('You said: word0') && !shown[0].includes('word99')
  })
  await page.locator('#cut').click()
  assert.match(await (await ended(page)).innerText(), /you interrupted it/)
  await until('it shows what nobody heard', async () => (await words.locator('del').innerText()).includes('word99'))
  await say(page, 'Hello there')
  assert.equal(await (await ended(page)).locator('.words').innerText(), 'You said: Hello there')
  await until('all of it is beside', async () => (await words.last().innerText()) === 'You said: Hello there')
  await visit.axe('/talk, talking')

  // ---- The microphone: its recording is stored with the message, and its sound interrupts the agent.
  await until('it has been beeping for a while, and was kept', async () => {
    await say(page, 'Do you hear me?')
    await ended(page)
    return (await page.locator('#transcript .play').count()) > 0
  })
  await durable(page) // the address of the recording is a revision too
  const recorded = (await messagesOf(session)).find(({ audio_url }) => audio_url)
  const recording = await page.request.get(recorded.audio_url)
  assert.match(recording.headers()['content-type'], /^audio\//)
  assert.ok((await recording.body()).length > 500)
  await say(page, LONG)
  await page.locator('#with-cutting').check()
  assert.match(await (await ended(page)).innerText(), /you interrupted it/)
  await page.locator('#with-cutting').uncheck()
  const interrupted = (await messagesOf(session)).filter((message) => message.interrupted)
  assert.equal(interrupted.length, 2)
  for (const { content, content_generated } of interrupted) {
    assert.ok(content_generated.startsWith(content) && content.length < content_generated.length, `${content} of ${content_generated}`)
  }

  // ---- The connection is lost, but no message.
  await cut()
  await until('it says so', async () => /the connection is lost/.test(await state(page)))
  await say(page, 'Is this kept?')
  await until('it is kept', async () => /kept and will be sent again/.test(await state(page)))
  way.isCut = false
  await until('it is back', async () => (await state(page)) === 'connected')
  await ended(page)
  const kept = (await messagesOf(session)).filter(({ content }) => content === 'Is this kept?')
  const shown = await page.locator('#transcript .said.user').last().getAttribute('id')
  assert.deepEqual(kept.map(({ id }) => `m-${id}`), [shown], 'once, under its own id')

  await page.locator('#end').click()
  await until('it has ended', async () => (await state(page)) === 'ended')
  assert.equal((await api('GET', `/v1${session}`)).status, 'ended')

  await visit.open('/talk')
  await visit.shot('talk', async (page) => {
    await page.locator('#with-cutting').uncheck()
    await say(page, 'Where is my order?')
    await ended(page)
  })
})

// The microphone is refused: the user can still talk by typing, with the keyboard alone.
await browse(async (visit) => {
  const { page } = visit
  await visit.open('/talk')
  await visit.tabTo('the field', ({ name }) => name === 'words')
  await page.keyboard.type('Without a voice')
  await page.keyboard.press('Enter')
  await until('it says so', async () => /refused\. Type your messages instead/.test(await page.locator('#ears').innerText()))
  await ended(page)
  assert.match(await said(page).last().innerText(), /You said: Without a voice/)
}, { without: '--use-fake-ui-for-media-stream' })

// Drives a browser through the pages and checks them. A test fails if a page logs an error to the console (a policy
// violation, a script error or a missing file) or if axe-core finds a fault.

import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'

export { assert }

// The address of the server, and the URL of a path.
export const base = process.env.SERVER_URL
export const url = (path) => new URL(path, base).href

const modules = createRequire(join(process.env.BROWSER_MODULES, 'package.json'))
const { chromium } = modules('playwright-core')
const axeSource = readFileSync(modules.resolve('axe-core/axe.min.js'), 'utf8')

// Far longer than any step takes, even on a busy machine.
const DEADLINE = 60_000

const FLAGS = [
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
  '--autoplay-policy=no-user-gesture-required',
  // Some machines have little shared memory.
  '--disable-dev-shm-usage',
]

const SIZES = {
  desktop: { viewport: { width: 1280, height: 800 } },
  phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 },
}
const SCHEMES = ['light', 'dark']

// Runs a test in a separate browser. `body` gets a `Visit` with a large, light screen. `without` removes one of the
// flags: without the flag for the user's consent, pages get no microphone.
export async function browse(body, { without } = {}) {
  const isRoot = process.getuid?.() === 0
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: [...FLAGS.filter((flag) => flag !== without), ...(isRoot ? ['--no-sandbox'] : [])],
    timeout: DEADLINE,
  })
  const visits = []
  const open = async (options) => {
    const visit = await Visit.open(browser, options)
    visits.push(visit)
    return visit
  }
  try {
    await body(await open(), open)
    for (const visit of visits) visit.isUncomplained()
  } catch (error) {
    for (const visit of visits) await visit.tellWhere()
    throw error
  } finally {
    await browser.close()
  }
}

// A visitor with a screen, cookies and a page.
class Visit {
  static async open(browser, { size = 'desktop', scheme = 'light', ...options } = {}) {
    const context = await browser.newContext({ ...SIZES[size], colorScheme: scheme, baseURL: base, ...options })
    context.setDefaultTimeout(DEADLINE)
    const visit = new Visit()
    Object.assign(visit, { browser, context, complaints: [], provoked: [], page: await context.newPage() })
    visit.hear(visit.page)
    return visit
  }

  hear(page) {
    page.on('console', (message) => {
      if (message.type() !== 'error') return
      this.complaints.push(`${page.url()}: ${message.text()} (${message.location().url})`)
    })
    page.on('pageerror', (error) => this.complaints.push(`${page.url()}: ${error.stack ?? error}`))
  }

  // Opens a page, checks its status and waits until it is loaded.
  async open(path, status = 200) {
    const answer = await this.page.goto(path, { waitUntil: 'load' })
    assert.equal(answer.status(), status, `${path}: ${answer.status()}`)
    return answer
  }

  // Searches until something is found, because the index lags behind the messages.
  async search(words) {
    const query = `/?q=${encodeURIComponent(words)}&user=&status=`
    await until(`${words} is found`, async () => {
      await this.open(query)
      return this.page.locator('.hit mark').first().isVisible()
    })
    return query
  }

  // Expects a console error that the test itself has caused: a response with this status. The browser may log it twice.
  async complained(status) {
    const isIt = (complaint) => complaint.includes(`responded with a status of ${status}`)
    const found = await until(`a complaint about ${status}`, () => this.complaints.find(isIt))
    this.provoked.push(found)
  }

  isUncomplained() {
    const others = this.complaints.filter((complaint) => !this.provoked.includes(complaint))
    assert.deepEqual(others, [], 'the pages complained on the console')
  }

  // Prints where a failed test stood.
  async tellWhere() {
    for (const complaint of this.complaints) console.error(`console: ${complaint}`)
    if (this.page.isClosed()) return
    console.error(`the page was ${this.page.url()}`)
    await this.page.screenshot({ path: screenshot('failed') }).catch(() => {})
  }

  // Asserts that axe-core finds nothing on the current page, in light and in dark, which differ in colours only.
  // axe-core is injected by the debugger, because the page's policy would not allow its script.
  async axe(what = this.page.url()) {
    for (const colorScheme of SCHEMES) {
      await this.page.emulateMedia({ colorScheme })
      await this.isAtRest()
      const runOnly = colorScheme === 'dark' ? ['color-contrast'] : undefined
      await this.page.evaluate(axeSource)
      const { violations } = await this.page.evaluate(
        (runOnly) => window.axe.run(document, { resultTypes: ['violations'], ...(runOnly && { runOnly }) }),
        runOnly,
      )
      const told = violations.map(({ id, impact, help, nodes }) => {
        const places = nodes.slice(0, 5).map((node) => `    ${node.html.slice(0, 200)}\n      ${node.failureSummary.replaceAll('\n', '\n      ')}`)
        return `  ${id} (${impact}): ${help}, ${nodes.length} times\n${places.join('\n')}`
      })
      assert.equal(told.length, 0, `axe on ${what}, ${colorScheme}:\n${told.join('\n')}`)
    }
    await this.page.emulateMedia({ colorScheme: 'light' })
  }

  // Waits for the end of all animations, because axe-core would check the colours in between.
  async isAtRest() {
    await this.page.evaluate(async () => {
      await document.fonts.ready
      const finite = document.getAnimations().filter((one) => one.effect?.getComputedTiming().iterations !== Infinity)
      await Promise.allSettled(finite.map((one) => one.finished))
    })
  }

  // Takes screenshots of the current page, light and dark, on a large screen and on a phone. Asserts that no page is
  // wider than its screen.
  async shot(name, prepare = async () => {}) {
    const [address, storageState] = [this.page.url(), await this.context.storageState()]
    for (const size of Object.keys(SIZES)) {
      const visit = await Visit.open(this.browser, { size, storageState })
      try {
        await visit.open(address)
        await prepare(visit.page)
        await visit.fits()
        for (const colorScheme of SCHEMES) {
          await visit.page.emulateMedia({ colorScheme })
          await visit.isAtRest()
          await visit.page.screenshot({ path: screenshot(`${name}-${colorScheme}-${size}`) })
        }
        visit.isUncomplained()
      } finally {
        await visit.context.close()
      }
    }
  }

  // Asserts that the page does not scroll sideways; names the elements that are too wide.
  async fits() {
    const wide = await this.page.evaluate(() => {
      const width = document.documentElement.clientWidth
      if (document.documentElement.scrollWidth <= width) return []
      const all = [...document.body.querySelectorAll('*')]
      const beyond = all.filter((one) => one.getBoundingClientRect().right > width + 1)
      return beyond.slice(0, 5).map((one) => one.outerHTML.slice(0, 160))
    })
    assert.deepEqual(wide, [], `${this.page.url()} is wider than the screen`)
  }

  // Returns the focused element and whether its focus is visible.
  async focused() {
    return this.page.evaluate(() => {
      const one = document.activeElement
      const style = getComputedStyle(one)
      const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0
      const box = one.getBoundingClientRect()
      return {
        tag: one.tagName.toLowerCase(),
        text: (one.getAttribute('aria-label') ?? one.textContent ?? '').trim().replace(/\s+/g, ' ').slice(0, 80),
        href: one.getAttribute('href'),
        name: one.getAttribute('name') ?? one.id,
        // The button in a date field has a focus ring of the browser that scripts cannot see.
        visible: ring || style.boxShadow !== 'none' || (one.type === 'date' && !one.matches(':focus-visible')),
        onScreen: box.width > 0 && box.bottom > 0 && box.top < innerHeight,
      }
    })
  }

  // Presses Tab until the wanted element has the focus. Asserts that the focus is visible on every element on the way.
  async tabTo(what, wanted, most = 60) {
    const passed = []
    for (let step = 0; step < most; step += 1) {
      await this.page.keyboard.press('Tab')
      const focused = await this.focused()
      if (focused.tag !== 'body') assert.ok(focused.visible && focused.onScreen, `focus is not seen on ${JSON.stringify(focused)}`)
      if (wanted(focused)) return focused
      passed.push(`${focused.tag} ${focused.text}`)
    }
    assert.fail(`${most} times Tab never reached ${what}: ${passed.join(', ')}`)
  }
}

function screenshot(name) {
  const folder = process.env.SCREENSHOTS
  mkdirSync(folder, { recursive: true })
  return join(folder, `${name}.png`)
}

// Polls until `look` returns a value.
export async function until(what, look) {
  const begun = Date.now()
  for (;;) {
    const seen = await look()
    if (seen) return seen
    assert.ok(Date.now() - begun < DEADLINE, `waited ${DEADLINE} ms in vain for this: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

// Sends a request to the HTTP API and returns the JSON of a successful response.
export async function api(method, path, body) {
  const headers = { 'content-type': 'application/json', ...authorization() }
  const answer = await fetch(url(path), { method, headers, body: body && JSON.stringify(body) })
  const text = await answer.text()
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`)
  return JSON.parse(text)
}

function authorization() {
  const token = process.env.API_TOKEN
  return token ? { authorization: `Bearer ${token}` } : {}
}

// An agent that talks over a WebSocket. `say` returns when the message is durable.
export class Agent {
  static async connect(query) {
    const socket = new WebSocket(`${base.replace('http', 'ws')}/v1/ws?${new URLSearchParams(query)}`)
    const agent = Object.assign(new Agent(), { socket, frames: [], waiting: [] })
    socket.onmessage = ({ data }) => agent.hear(JSON.parse(data))
    socket.onerror = () => agent.hear({ type: 'error', message: 'the connection failed' })
    const { session_id } = await agent.expect('session.started')
    return Object.assign(agent, { session: session_id })
  }

  hear(frame) {
    const next = this.waiting.shift()
    if (next) next(frame)
    else this.frames.push(frame)
  }

  async expect(type) {
    const frame = this.frames.shift() ?? (await new Promise((resolve) => this.waiting.push(resolve)))
    assert.equal(frame.type, type, JSON.stringify(frame))
    return frame
  }

  async say(role, content, more = {}) {
    this.socket.send(JSON.stringify({ type: 'message', role, content, ...more }))
    const { acks } = await this.expect('ack')
    return acks[0].id
  }

  async end(reason = 'completed') {
    this.socket.send(JSON.stringify({ type: 'session.end', reason }))
    await this.expect('session.ended')
    this.socket.close()
  }
}

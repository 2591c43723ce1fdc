import { html, nothing } from './vendor/lit-html/lit-html.js';
import { DEEDS } from './deeds.js';
import { capsOf } from './keys.js';
import { spaced } from './plate.js';
import { keyed, t } from './text.js';

export { html, nothing };

const cap = key => (key ? html`<kbd aria-hidden="true">${key}</kbd>` : nothing);

export const button = (label, act, { key, look = '', off = false } = {}) => html`<button class=${look} ?disabled=${off} @click=${act}>${label}${cap(key)}</button>`;

/** The one primary button: always this corner, always Enter. */
export const primary = (app, [label, act, isOff]) => html`<button class="primary" data-primary ?disabled=${isOff || app.isBusy}
  @click=${() => app.press(act)}>${app.busyWord() || label}${cap('Enter')}</button>`;

export const choices = (label, pairs, chosen, act, look = '') => html`<div class="choices ${look}" role="radiogroup" aria-label=${label}>${pairs.map(([value, name]) => html`<button
  role="radio" class="option" aria-checked=${value === chosen} @click=${() => act(value)}>${name}</button>`)}</div>`;

export const options = (pairs, act, off = false, from = 1) => html`<div class="choices">${pairs.map(([value, name], place) => html`<button class="option" data-option
  ?disabled=${off} @click=${() => act(value)}>${cap(place + from < 10 ? place + from : '')} ${name}</button>`)}</div>`;

export const key = (char, act, isDead = false, code = '') => html`<button class="key ${char.length > 1 ? 'word' : ''}" data-code=${code} ?disabled=${isDead} @click=${() => act(char)}>${char}</button>`;

export const pad = (keys, act, look, isDead = false) => html`<div class="pad ${look}">${keys.map(char => key(char, act, isDead))}</div>`;

export const NUMBERS = [...'123456789清0退'];

export const chip = (text, colour) => html`<span class="plate c${text ? colour ?? 9 : 9}">${text ? spaced(text) : '—'}</span>`;

export const hint = (text, look = '') => html`<p class="hint ${look}">${text}</p>`;

export const big = text => html`<p class="big">${text}</p>`;

export const field = (label, name, value, act, { type = 'text', look = '', isStart = false, focus } = {}) => html`<label class="field ${look}"><small>${label}</small><input type=${type} name=${name}
  ?data-start=${isStart} inputmode=${focus ? 'none' : 'text'} autocomplete="off" maxlength="40" .value=${value} @focus=${focus} @input=${event => act(event.target.value)}></label>`;

export const picker = (label, act, { accept, capture } = {}) => html`<label class="button">${label}<input type="file" class="sr" accept=${accept ?? nothing} capture=${capture ?? nothing} @change=${event => act(event.target.files[0])}></label>`;

/** With a pad of its own: no system keyboard covers the screen. */
export function credentials(app, label) {
  const { secret } = app;
  const one = (name, text, isStart) => field(text, name, secret[name], value => app.keyIn({ [name]: value }),
    { type: name === 'password' ? name : 'text', look: secret.field === name ? 'now' : '', isStart, focus: () => app.keyIn({ field: name }) });
  return html`<div class="two">${label ? one('operator', label, true) : nothing}${one('password', t('Password'), !label)}</div>
    ${pad(NUMBERS, char => app.keySecret(char), 'num')}`;
}

const part = value => (value?.plate !== undefined ? chip(value.plate, value.colour) : value?.b !== undefined ? html`<b>${value.b}</b>` : html`<span>${value}</span>`);

export const deedOf = (app, action) => button(action.label, () => app.run(action), { off: action.off || app.isBusy });

const row = (app, { look = '', parts, go, button: action }) => html`<li class=${look}>${go ? html`<button class="line" @click=${() => app.go(go)}>${parts.map(part)}</button>` : parts.map(part)}${[action ?? []].flat().map(each => deedOf(app, each))}</li>`;

/** Made by gateway/web/blocks.py. */
const BLOCKS = {
  p: (app, { p, look }) => (look === 'big' ? big(p) : hint(p, look)),
  h: (app, { h }) => html`<h2>${h}</h2>`,
  facts: (app, { facts }) => html`<dl>${facts.map(([name, value]) => html`<dt>${name}</dt><dd>${part(value)}</dd>`)}</dl>`,
  rows: (app, { rows, empty, until_ms: until }) => (until < app.now() ? nothing : rows.length ? html`<ul class="rows">${rows.map(each => row(app, each))}</ul>` : hint(empty)),
  money: (app, { money, unit }) => html`<p class="money"><b>${money}</b> ${unit}</p>`,
  alert: (app, { alert: detail, ...more }) => app.alert({ detail, ...more }),
  image: (app, { image, alt }) => (image.startsWith('<') ? html`<div class="wide" tabindex="0"><img alt=${alt} src=${`data:image/svg+xml;charset=utf-8,${encodeURIComponent(image)}`}></div>` : html`<img class="kept" alt=${alt} src=${image}>`),
  digits: (app, { digits }) => html`<p class="digits6">${digits}</p>`,
  choices: (app, block) => html`<h2>${block.label}</h2>${choices(block.label, block.choices, block.chosen, value => app.narrow({ [block.name]: value }))}`,
  field: (app, block) => field(block.label, block.field, block.value, value => app.narrow({ [block.field]: value.toUpperCase() }), { isStart: block.is_start }),
  letters: (app, { letters, keys, value }) => pad(keys, char => app.narrow({ [letters]: keyed(app.place.query[letters] ?? value, char, 20) }), 'initials'),
  link: (app, { link, label }) => html`<a class="button" href=${link} download>${label}</a>`,
  file: (app, { file, label }) => picker(label, body => app.run({ method: 'POST', path: file, body, then: {} })),
  keymap: (app, { keymap }) => html`<h2>${keymap}</h2>${hint(`${t('Choose, then press a key')} ${t(app.learning)}`)}<div class="choices">${Object.keys(DEEDS).map(each => html`<button class="option" aria-pressed=${app.learning === each}
    @click=${() => app.learn(each)}>${t(each)} <small>${capsOf(app.settings.map, each).join(' ')}</small></button>`)}</div>${button(t('Reset'), () => app.configure({ map: {} }))}`,
  setting: (app, { setting, label, pairs }) => html`<h2>${label}</h2>${choices(label, pairs, app.settings[setting], value => app.configure({ [setting]: value }))}`,
  options: (app, block) => options(block.options.map(action => [action, action.label]), action => app.run(action), app.isBusy, block.from),
  credentials: (app, block) => credentials(app, block.credentials),
};

export const blocks = (app, found = []) => found.map(block => BLOCKS[Object.keys(block)[0]](app, block));

// @ts-check
/** Around the lane: history, devices, sync, versions, settings. They look; they do not sell. */
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { age, day, freshness, stamp, t, tOr, yuan } from '../text.js';
import { syncRows } from './frame.js';
import { button, chip, choices, facts, page, primary } from './parts.js';

/** @typedef {import('../app.js').App} App */

/** @param {App} app */
const empty = app => html`<p class="hint">${app.data.isLoading ? t('loading') : t(`empty.${app.view}`)}</p>`;

/** @param {App} app */
export function menu(app) {
  const places = ['history', 'suspended', 'devices', 'sync', 'versions', 'pairing', 'settings', 'shiftEnd'];
  return page(app, t('menu'), html`<div class="choices tiles">${places.map((place, i) => html`<button type="button" class="option" data-option
    @click=${() => app.go(place)}><kbd aria-hidden="true">${i + 1}</kbd> ${t(`menu.${place}`)}</button>`)}</div>`,
  html`${button(t('help'), () => app.open({ kind: 'help' }), { key: 'F1' })}${button(t('signOut'), () => app.signOut())}`);
}

const FILTERS = ['', 'saved', 'cancelled', 'unreadable'];

/** @param {App} app */
export function history(app) {
  const { rows, filter, next } = app.data;
  const body = html`<div class="filters"><label class="field"><small>${t('history.plate')}</small><input name="filter" autocomplete="off" maxlength="9"
    .value=${filter?.plate ?? ''} @input=${(/** @type {any} */ event) => app.filter({ plate: event.target.value.toUpperCase() })}></label>
    ${choices(t('history.state'), FILTERS.map(state => [state, t(state ? `state.${state}` : 'history.all')]), filter?.state ?? '', state => app.filter({ state }), 'inline')}</div>
    ${rows?.length ? html`<ul class="rows">${rows.map((/** @type {any} */ p) => html`<li><button type="button" class="line" @click=${() => app.go('passage', p.id)}>
    <span>${stamp(p.opened_at_ms)}</span>${chip(p.plate, p.colour ?? 9)}<b>${yuan(p.amount_fen)}</b><span>${tOr(`state.${p.state}`, p.state)}</span>
    ${fate(p)}</button></li>`)}</ul>${next ? button(t('history.more'), () => app.loadMore()) : nothing}` : empty(app)}`;
  return page(app, t('history'), body);
}

/** Where its record is. @param {Record<string, any>} p */
const fate = p => (p.delivery ? html`<span class=${p.fate?.reason ? 'bad' : ''}>${p.delivery} ${p.fate?.reason ?? ''}</span>` : nothing);

/** A passage's own story, from its journal. @param {App} app */
export function passage(app) {
  const { passage: p, entries } = app.data.rows ?? {};
  if (!p) return page(app, t('history.one'), empty(app));
  return page(app, t('history.one'), html`<div class="two"><div>${facts([[t('plate.of'), chip(p.plate, p.colour ?? 9)], [t('amount'), yuan(p.amount_fen)],
    [t('history.state'), tOr(`state.${p.state}`, p.state)], [t('record.seq'), p.seq ? `#${p.seq}` : t('none')],
    [t('history.fate'), fate(p)], [t('operator'), p.operator ?? t('none')]])}<p class="note">${p.id}</p>
    ${p.record_id ? html`<p class="note">${t('record.id', { id: p.record_id })}</p>` : nothing}</div>
    <ol class="timeline">${(entries ?? []).map((/** @type {any} */ entry) => html`<li><b>${stamp(entry.at_ms)}</b> ${tOr(`event.${entry.event}`, entry.event)}
    <small>${details(entry.body)} #${entry.seq} ${entry.operator ?? ''}</small></li>`)}</ol></div>`);
}

/** What of an entry people can read: fields that the catalogue has a word for. @param {Record<string, any>} [body] */
const details = (body = {}) => Object.entries(body ?? {}).filter(([name, value]) => typeof value !== 'object' && value !== '' && tOr(`field.${name}`, ''))
  .map(([name, value]) => `${t(`field.${name}`)} ${name.endsWith('_fen') ? yuan(Number(value)) : value}`).join(' · ');

/** @param {App} app */
export function devices(app) {
  return page(app, t('devices'), html`<ul class="rows">${Object.entries(app.s.devices).map(([name, d]) => html`<li class=${d.state}>
    <b>${d.state === 'ok' ? '●' : '▲'} ${d.name}</b><span>${tOr(`device.${d.state}`, d.state)} ${d.text ?? ''}
    ${d.weight_kg == null ? '' : t('weigh.now', { kg: d.weight_kg })}</span><small>${d.state === 'ok' ? '' : t(`device.help.${name}`)}</small></li>`)}</ul>`);
}

/** @param {App} app */
export function sync(app) {
  const { parked } = app.data.rows ?? {};
  return page(app, t('sync'), html`${facts(syncRows(app.s.sync))}<p class="note good">✓ ${t('sync.can')}</p><p class="note">✕ ${t('sync.cannot')}</p>
    <h2>${t('sync.refused')}</h2>${parked?.length ? html`<ul class="rows">${parked.map((/** @type {any} */ record) => html`<li class="bad"><b>#${record.seq}</b>
    <span>${record.reason}</span><small>${record.id}</small></li>`)}</ul><p class="hint">${t('sync.refused.action')}</p>` : empty(app)}`);
}

/** @param {App} app */
export function versions(app) {
  const rows = app.data.rows?.parameters ?? [];
  return page(app, t('versions'), rows.length ? html`<ul class="rows">${rows.map((/** @type {any} */ table) => html`<li class=${
    table.name === 'status_list' ? freshness(table.age_s) : ''}><b>${tOr(`table.${table.name}`, table.name)}</b><span>${table.version}
    · ${t('versions.since', { at: day(table.effective_from_ms) })} · ${t('versions.age', { age: age(table.age_s) })}
    ${table.next ? html`<br>${t('versions.next', { version: table.next.version, at: day(table.next.effective_from_ms) })}` : nothing}
    ${table.rejected.map((/** @type {any} */ bad) => html`<br><b class="bad">${t('versions.rejected', bad)}</b>`)}</span></li>`)}</ul>` : empty(app));
}

/** @param {App} app */
export function settings(app) {
  const { theme, scale, volume, map } = app.settings;
  return page(app, t('settings'), html`<h2>${t('theme')}</h2>${choices(t('theme'), ['auto', 'day', 'night'].map(name => [name, t(`theme.${name}`)]), theme,
    value => app.configure({ theme: value }))}<h2>${t('scale')}</h2>${choices(t('scale'), [[1, t('scale.1')], [1.15, t('scale.2')]], scale,
    value => app.configure({ scale: value }))}<h2>${t('volume')}</h2>${choices(t('volume'), [0, 0.5, 1].map(n => [n, t(`volume.${n}`)]), volume,
    value => app.configure({ volume: value }))}<h2>${t('keys')}</h2><p class="hint">${app.learning ? t('keys.press', { action: t(`action.${app.learning}`) }) : t('keys.hint')}</p>
    <div class="choices pairs">${t('keys.actions').split('|').map(action => html`<button type="button" class="option" aria-pressed=${app.learning === action}
    @click=${() => app.learn(action)}>${t(`action.${action}`)} <small>${codesOf(map, action)}</small></button>`)}</div>`,
  primary(app, t('keys.reset'), () => app.configure({ map: {} })));
}

/** @param {Record<string, string>} map @param {string} action */
const codesOf = (map, action) => Object.keys(map).filter(code => map[code] === action).join(' ');

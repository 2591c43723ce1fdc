// @ts-check
/** What lies over the work for a moment. One at a time, never one on another. */
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { t } from '../text.js';
import { explained, stations } from './fare.js';
import { syncRows } from './frame.js';
import { button, facts, primary } from './parts.js';
import { colours } from './plate.js';
import { confirmClose } from './shift.js';
import { cancel, master, reason } from './special.js';
import { classesDialog, weighDialog } from './vehicle.js';

/** @typedef {import('../app.js').App} App */

/** @type {Record<string, (app: App) => unknown>} */
const DIALOGS = { cancel, master, reason, stations, colours, classes: classesDialog, weigh: weighDialog, photo, explain, help, sync, confirmClose };

/** @param {App} app */
export function dialog(app) {
  if (!app.dialog) return nothing;
  return html`<div class="veil"><div class="dialog ${app.dialog.kind}" role="dialog" aria-modal="true" aria-label=${t(`dialog.${app.dialog.kind}`)}
    tabindex="-1">${DIALOGS[app.dialog.kind](app)}</div></div>`;
}

/** @param {App} app */
const close = app => html`<div class="row">${primary(app, t('close'), () => app.close())}</div>`;

/** @param {App} app */
function photo(app) {
  return html`<h1>${t('photo')}</h1><div class="frame"><img alt=${t('photo')} src=${app.photoUrl()}>${
    app.noPhoto ? html`<span>${t('photo.none')}</span>` : nothing}</div>${close(app)}`;
}

/** @param {App} app */
function explain(app) {
  return html`<div class="scroll">${explained(app)}</div>${close(app)}`;
}

/** Which keys work now. @param {App} app */
function help(app) {
  return html`<h1>${t('help')}</h1><div class="scroll">${facts(t('help.keys').split('|').map(line => {
    const [key, what] = line.split('=');
    return [html`<kbd>${key}</kbd>`, what];
  }))}</div>${close(app)}`;
}

/** What may be done and what not while the centre is away. @param {App} app */
function sync(app) {
  const { sync: state } = app.s;
  return html`<h1>${state.online ? t('sync.up') : t('sync.down')}</h1>${facts(syncRows(state))}
    <p class="note good">✓ ${t('sync.can')}</p><p class="note">✕ ${t('sync.cannot')}</p><p class="hint">${t('sync.self')}</p>
    <div class="row">${button(t('sync.more'), () => { app.close(); app.go('sync'); })}${primary(app, t('close'), () => app.close())}</div>`;
}

import { DEEDS } from './deeds.js';
import { DIALOGS } from './dialogs.js';
import { capsOf } from './keys.js';
import { SCREENS } from './lane.js';
import { blocks, button, chip, html, nothing, primary } from './parts.js';
import { plateOf } from './state.js';
import { t } from './text.js';

/** A screen is a value: {title, look, body, side, bar: names of deeds or templates, primary: a deed or [label, act, isOff],
 * isPlace: it scrolls and has a way back}. On the lane the gateway makes most of it (gateway/web/screens.py). */
export function template(app) {
  const { s, doc } = app;
  const isLane = app.view === 'lane' && !!s;
  const hasStrip = isLane && s.passage && !['idle', 'reading'].includes(doc.name);
  const own = SCREENS[app.shown]?.(app) ?? {};
  const { title, look = '', body = nothing, side = isLane && blocks(app, doc.beside ?? s.side), bar = [], primary: main, isPlace, ownTrouble } = isLane ? { ...doc, ...own, body: html`${blocks(app, doc.blocks)}${own.body ?? nothing}` } : own;
  return html`<div class="shell ${hasStrip ? 'with-strip' : ''} ${isLane ? 'with-steps' : ''}" ?inert=${!!app.dialog}>${top(app)}${hasStrip ? strip(app) : nothing}${isLane ? steps(s.steps, doc) : nothing}
    <main class="work ${look}"><h1>${title}</h1>${isLane && !app.isMine && !ownTrouble ? html`<div class="hand">${owner(app)}</div>` : nothing}${ownTrouble ? nothing : trouble(app)}${isPlace ? html`<div class="scroll" tabindex="0" role="region" aria-label=${title}>${body}</div>` : html`<div class="body" ?inert=${isLane && !app.isMine}>${body}</div>`}</main>
    ${isLane ? html`<aside class="side" tabindex="0" aria-label=${t('This vehicle')}>${doc.beside ? nothing : owner(app)}${side}</aside>` : nothing}<footer class="bar">${isPlace ? back(() => app.leave()) : nothing}${foot(app, bar, main)}</footer></div>${app.dialog ? over(app, DIALOGS[app.dialog.kind](app)) : nothing}`;
}

const back = act => button(t('Back'), act, { key: 'Esc' });

const foot = (app, bar, main) => html`${bar.map(each => deed(app, each))}${main ? primary(app, typeof main === 'string' ? [t(main), () => app.act(main), !app.may(main)] : main) : nothing}`;

const over = (app, { title, body, bar = [], primary: main }) => html`<div class="veil"><div class="dialog ${app.dialog.kind}" role="dialog" aria-modal="true" aria-label=${title} tabindex="-1"><h1>${title}</h1>
  ${app.error ? alert(app, app.error) : nothing}${body}<div class="row">${back(() => app.close())}${foot(app, bar, main)}</div></div></div>`;

export function deed(app, name) {
  if (typeof name !== 'string') return name;
  return app.may(name) ? button(t(name), () => DEEDS[name][1](app), { key: capsOf(app.settings.map, name)[0], off: !!app.pending }) : nothing;
}

const REMEDIES = { 'E-104': ['handOver'], 'E-113': ['standing'], 'E-203': ['photo', 'noPhoto'], 'E-215': ['handOver'], 'E-302': ['handOver'], 'E-303': ['standing'], 'E-402': ['takeOver'] };

/** The code stands small at the end, for the phone call. */
export const alert = (app, { code, number = code, detail, action = '', level = 'bad' }, buttons = nothing) => html`<div class="alert ${level}" role="alert"><div><b>${level === 'warn' ? '▲' : '✕'} ${detail}</b>
  <p>${action} <small>${number}</small></p></div>${(REMEDIES[number] ?? []).map(name => deed(app, name))}${buttons}</div>`;

export function trouble(app) {
  const fault = app.error ?? (app.view === 'lane' && app.s?.problem);
  return fault && !app.dialog ? alert(app, fault) : nothing;
}

const owner = app => (app.isMine ? nothing : alert(app, { code: 'E-402', detail: app.s.held_by }));

function top(app) {
  const { s, session } = app;
  if (!s) return html`<header class="top"><b>${t('Toll lane')}</b></header>`;
  const { lamps, shift, sync: [look, ...words] } = s.top;
  const asked = session?.role === 'master' && s.approvals?.some(each => each.state === 'pending');
  return html`<header class="top"><b>${s.lane_name}</b><span class="who">${session?.name} ${session?.operator} ${shift}</span><span class="devices" role="list" aria-label=${t('devices')}>${lamps.map(([level, name]) => html`<span role="listitem" class="device ${level}">${name}</span>`)}</span>
    ${asked ? button(t('Requests'), () => app.go('approvals'), { look: 'chip warn' }) : nothing}${button(words.map((word, place) => html`<span class=${place ? 'booth' : ''}>${word} </span>`), () => app.go('sync'), { look: `chip ${look}` })}</header>
    ${app.link.isMissed ? html`<div class="lost" role="alert">${t('Link lost, dialling. What is typed is kept')}</div>` : nothing}`;
}

function strip(app) {
  const { passage, strip: found } = app.s;
  const { plate, colour } = app.shown === 'plate' ? { plate: plateOf(app.draft), colour: app.draft.colour } : passage;
  return html`<button class="strip" @click=${() => app.open('aside')}><span>${chip(plate, colour)}</span>${found.map(([look, name, value]) => html`<span class=${look}><small>${name}</small>${value}</span>`)}${
    passage.findings.length || !app.isMine ? html`<b class="hand bad">▲</b>` : nothing}</button>`;
}

const steps = (words, { step: at, past = words.map((_, place) => place < at) }) => html`<nav class="steps" aria-label=${t('Steps')}><ol>${words.map((word, place) => html`<li class=${past[place] ? 'past' : place === at ? 'now' : ''}
  aria-current=${place === at ? 'step' : nothing}><i aria-hidden="true">${past[place] ? '✓' : place + 1}</i><span>${word}</span></li>`)}</ol></nav>`;

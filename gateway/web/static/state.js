// @ts-check
/**
 * What the page itself knows: which step a snapshot is at, and the draft of what a person has keyed
 * and not yet sent. Pure. No money lives here: the snapshot is the only truth.
 */
import { blank, editorOf, guessColour, kind } from './plate.js';

/** @typedef {Record<string, any>} Snapshot whole, as GET /api/lanes/{lane} gives it */
/** @typedef {{operator: string, password: string, field: string}} Credentials */
/** @typedef {{passage: string, editor: import('./plate.js').Editor, from: string, touched: boolean,
 *   typed: boolean, colour: number, colourTouched: boolean, photo: string | null, hex: string,
 *   type: number | null, class: number | null, axles: number | null, kilos: string, weightReason: string,
 *   look: string, means: string, fen: string, reason: string}} Draft */

export const STEPS = ['read', 'plate', 'vehicle', 'fare', 'save'];

/** @type {Record<string, string>} the screen each state of the lane is drawn on */
const SCREENS = {
  idle: 'idle', reading: 'reading', refused: 'refused', held: 'held', disputed: 'held', checked: 'plate', evidenced: 'vehicle',
  classified: 'vehicle', priced: 'fare', unpriced: 'fare', agreed: 'fare', preparing: 'saving',
  debiting: 'saving', doubtful: 'doubtful', saved: 'saved',
};

/** The command that goes back to a step, while the gateway still allows it. */
const BACK = { plate: 'submit_plate', vehicle: 'classify' };

/** @param {Snapshot} s @param {Draft} draft @param {string} dismissed id of a success already seen */
export function screenOf(s, draft, dismissed) {
  if (s.state === 'saved' && s.passage?.id === dismissed) return 'idle';
  if (draft.look && s.allowed.includes(/** @type {any} */ (BACK)[draft.look])) return draft.look;
  if (s.state === 'classified' && !awaitsWeight(s)) return 'fare';
  return SCREENS[s.state] ?? 'idle';
}

/** @param {Snapshot} s */
export const awaitsWeight = s => s.passage.needs_weight && s.passage.vehicle.weight_kg === null;

/** The step in the row of five that a screen belongs to. @param {string} screen @param {Snapshot} s */
export function stepOf(screen, s) {
  if (screen === 'fare' && s.state === 'agreed') return 'save';
  /** @type {Record<string, string>} */
  const steps = { plate: 'plate', vehicle: 'vehicle', fare: 'fare', saving: 'save', doubtful: 'save', saved: 'save' };
  return steps[screen] ?? 'read';
}

/** The screen one step back, or '' if there is none. @param {string} screen @param {Snapshot} s */
export function before(screen, s) {
  const previous = screen === 'fare' ? 'vehicle' : screen === 'vehicle' ? 'plate' : '';
  return previous && s.allowed.includes(/** @type {any} */ (BACK)[previous]) ? previous : '';
}

/** @param {string} passage @returns {Draft} */
export const emptyDraft = (passage = '') => ({
  passage, editor: blank(), from: '', touched: false, typed: false, colour: 0, colourTouched: false,
  photo: null, hex: '', type: null, class: null, axles: null, kilos: '', weightReason: '', look: '',
  means: 'cash', fen: '', reason: '',
});

/** The draft for this snapshot: kept while the passage is the same, else begun anew.
 * The plate comes from the camera or from what was already submitted, never from card or tag.
 * @param {Draft} draft @param {Snapshot} s @returns {Draft} */
export function adopt(draft, s) {
  const passage = s.passage;
  if (!passage) return draft.passage ? emptyDraft() : draft;
  const kept = draft.passage === passage.id ? draft : emptyDraft(passage.id);
  if (kept.touched || kept.from) return kept;
  const source = passage.plate ? passage : passage.lpr;
  if (!source?.plate) return kept;
  const colour = source.colour ?? guessColour(source.plate);
  return { ...kept, editor: editorOf(source.plate), from: source.plate, colour, colourTouched: source.colour != null };
}

/** @param {Draft} draft @param {import('./plate.js').Editor} editor @returns {Draft} */
export function edited(draft, editor) {
  const plate = editor.chars.join('');
  const colour = draft.colourTouched ? draft.colour : guessColour(plate);
  return { ...draft, editor, colour, touched: true, typed: draft.typed || !plate };
}

/** Where the plate comes from, as the record will say. @param {Draft} draft @param {Snapshot} s */
export function plateSource(draft, s) {
  const lpr = s.passage.lpr;
  if (!lpr || draft.typed) return 'typed';
  return draft.editor.chars.join('') === lpr.plate ? 'lpr' : 'lpr_edited';
}

/** @param {Draft} draft */
export const plateReady = draft => kind(draft.editor.chars.join('')) !== null;

/** Places the camera was not sure of and nobody has changed since.
 * @param {Draft} draft @param {Snapshot} s @param {number} threshold @returns {Set<number>} */
export function doubts(draft, s, threshold = 0.9) {
  const lpr = s.passage?.lpr;
  /** @type {number[]} */
  const confidence = lpr?.confidence ?? [];
  const places = confidence.map((sure, i) => (sure < threshold ? i : -1));
  return new Set(places.filter(i => i >= 0 && draft.editor.chars[i] === [...(lpr?.plate ?? '')][i]));
}

/** The type to be confirmed: chosen, else submitted, else what card or tag say.
 * @param {Draft} draft @param {Snapshot} s */
export const typeOf = (draft, s) =>
  draft.type ?? s.passage.vehicle.type ?? s.passage.card?.vehicle_type ?? s.passage.tag?.vehicle_type ?? null;

/** @param {Draft} draft @param {Snapshot} s */
export const classOf = (draft, s) => draft.class ?? s.passage.vehicle.class ?? 0;

/** @param {number | null} type */
export const isTruck = type => type !== null && type > 10;

/** Axles most likely for a type (JT/T 489-2019); the collector corrects them.
 * @param {number | null} type @param {Draft} draft @param {Snapshot} s @returns {number} */
export function axlesOf(type, draft, s) {
  const usual = Math.max(2, (type ?? 0) % 10 === 1 ? 2 : (type ?? 0) % 10);
  return draft.axles ?? s.passage.vehicle.axle_count ?? usual;
}

/** Stations by name, initials or Hex, best first.
 * @param {{hex: string, name: string, pinyin: string}[]} rows @param {string} query */
export function findStations(rows, query) {
  const wanted = query.trim().toLowerCase();
  const rank = (/** @type {any} */ row) =>
    row.pinyin?.startsWith(wanted) || row.name.startsWith(wanted) ? 0
      : row.pinyin?.includes(wanted) || row.name.includes(wanted) || row.hex.toLowerCase().startsWith(wanted) ? 1 : 2;
  return rows.map(row => ({ row, at: rank(row) })).filter(each => each.at < 2)
    .sort((a, b) => a.at - b.at).map(each => each.row);
}

/** A gateway that moved on while a request was under way wins; a new link always does.
 * @param {Snapshot | null} old @param {Snapshot} fresh @param {boolean} isFirst */
export const isNewer = (old, fresh, isFirst) => isFirst || !old || old.lane !== fresh.lane || fresh.rev >= old.rev;

// @ts-check
/**
 * Plate rules: what may come next, what kind a text is, which colour it suggests. Pure, no DOM.
 * The gateway holds the same shapes (gateway/plate.py) and has the last word.
 */

/** One plate being keyed. `at` is the place the next key goes to; `page` picks the key page.
 * @typedef {{chars: string[], at: number, wide: boolean, page: string}} Editor */

export const LETTERS = [...'ABCDEFGHJKLMNPQRSTUVWXYZ'];
export const DIGITS = [...'1234567890'];
/** Fixed order: own province, its neighbours, the usual rest. Keys must not move. */
export const PROVINCES = [...'甘陕宁青新蒙川京津冀晋辽吉黑沪苏浙皖闽赣鲁豫鄂湘粤桂琼渝贵云藏'];
export const TAILS = [...'挂学警港澳领使试超临', '应急'];
/** Second page of place 1. */
export const STARTS = ['WJ', '军', '民航', '数字', '无牌'];
export const NEW_ENERGY = [...'DABCEFGHJK'];

const ANY = [...LETTERS, ...DIGITS];
const P = PROVINCES.join('');
const L = 'A-HJ-NP-Z';
const A = L + '0-9';

/** @type {[string, RegExp, number][]} kind, shape, colour it suggests (domain.md §3.1) */
const SHAPES = [
  ['none', /^无牌\d{0,8}$/, 9],
  ['energy', new RegExp(`^[${P}][${L}][DABCEFGHJK][${A}]\\d{4}$`), 4],
  ['energyLarge', new RegExp(`^[${P}][${L}]\\d{5}[DABCEFGHJK]$`), 5],
  ['towed', new RegExp(`^[${P}][${L}O][${A}]{4}[挂学]$`), 1],
  ['police', new RegExp(`^[${P}][${L}O][${A}]{4}警$`), 3],
  ['border', new RegExp(`^[${P}][${L}O][${A}]{4}[港澳领使]$`), 2],
  ['civil', new RegExp(`^[${P}][${L}O][${A}]{4}[${A}试超]$`), 0],
  ['emergency', new RegExp(`^[${P}][${L}][${A}]{3,4}应急$`), 12],
  ['armed', new RegExp(`^WJ[${P}]?[${A}]{5}$`), 3],
  ['military', new RegExp(`^(?!WJ)[${L}O]{2}[${A}]{5}$`), 3],
  ['embassy', /^(使\d{6}|\d{6}使)$/, 2],
  ['aviation', new RegExp(`^民航[${A}]{5}$`), 11],
  ['temporary', new RegExp(`^[${P}][${L}][${A}]{4,5}临$`), 7],
];

/** @param {string} text @returns {string | null} the kind of a whole plate, null if it is none */
export const kind = text => SHAPES.find(([, shape]) => shape.test(text))?.[0] ?? null;

/** @param {string} text @returns {number} colour code; blue while nothing else is known */
export const guessColour = text => SHAPES.find(([, shape]) => shape.test(text))?.[2] ?? 0;

/** Three letters in the serial of an ordinary plate are legal but rare: worth a second look.
 * @param {string} text */
export const isUnusual = text =>
  kind(text) === 'civil' && (text.slice(2).match(/[A-Z]/g) ?? []).length > 2;

/** @param {string[]} chars */
function family(chars) {
  const first = chars[0] ?? '';
  if (first === '使' || first === '民' || first === '无') return first;
  if (/\d/.test(first)) return 'digits';
  if (/[A-Z]/.test(first)) return first === 'W' && (chars[1] ?? 'J') === 'J' ? 'WJ' : 'military';
  return 'civil';
}

/** How many places this plate has. @param {string[]} chars @param {boolean} wide */
export function places(chars, wide = false) {
  switch (family(chars)) {
    case '无': return 2;
    case 'WJ': return PROVINCES.includes(chars[2]) ? 8 : 7;
    case 'civil': return wide || chars[6] === '应' || chars[7] === '临' ? 8 : 7;
    default: return 7;
  }
}

/** What may stand at a place, given what stands before it. Multi-character keys are tokens.
 * @param {number} at @param {string[]} chars @param {boolean} wide @returns {Set<string>} */
export function allowed(at, chars, wide = false) {
  if (at === 0) return new Set([...PROVINCES, '使', '民', '无', ...LETTERS, ...DIGITS, ...STARTS]);
  const head = chars.slice(0, at);
  switch (family(head)) {
    case '无': return new Set(at === 1 ? ['牌'] : []);
    case '使': return new Set(at < 7 ? DIGITS : []);
    case '民': return new Set(at === 1 ? ['航'] : at < 7 ? ANY : []);
    case 'digits': return new Set(at < 6 ? DIGITS : at === 6 ? ['使'] : []);
    case 'military': return new Set(at === 1 ? [...LETTERS, 'O'] : at < 7 ? ANY : []);
    case 'WJ': return armed(at, head);
    default: return civil(at, head, wide);
  }
}

/** @param {number} at @param {string[]} head */
function armed(at, head) {
  if (at === 1) return new Set([...LETTERS, 'O']);
  if (at === 2) return new Set([...PROVINCES, ...ANY]);
  return new Set(at < (PROVINCES.includes(head[2]) ? 8 : 7) ? ANY : []);
}

/** @param {number} at @param {string[]} head @param {boolean} wide */
function civil(at, head, wide) {
  if (at === 1) return new Set([...LETTERS, 'O']);
  if (head[at - 1] === '应') return new Set(['急']);
  if (at < 5) return new Set(ANY);
  if (at === 5) return new Set([...ANY, '应急']);
  if (at === 6) return new Set(head[5] === '急' ? [] : [...ANY, ...TAILS]);
  if (at > 7 || !head.slice(2).every(c => ANY.includes(c))) return new Set();
  return new Set([...(wide ? eighth(head) : []), '临']);
}

/** The eighth place of a new-energy plate. @param {string[]} head */
function eighth(head) {
  const tail = head.slice(2).join('');
  if (/^\d{5}$/.test(tail)) return NEW_ENERGY;
  return /^[DABCEFGHJK].\d{3}$/.test(tail) ? DIGITS : [];
}

/** @returns {Editor} */
export const blank = () => ({ chars: [], at: 0, wide: false, page: '' });

/** @param {string} text @returns {Editor} */
export const editorOf = text =>
  ({ chars: [...text], at: [...text].length, wide: /^energy/.test(kind(text) ?? ''), page: '' });

/** One key. An impossible one changes nothing: the same object comes back.
 * @param {Editor} ed @param {string} key @returns {Editor} */
export function press(ed, key) {
  if (key === '退') return back(ed);
  if (key === '清') return blank();
  if (key === '更多') return { ...ed, page: ed.page ? '' : 'more' };
  if (ed.at === 0 && (key === '军' || key === '数字')) {
    return { ...ed, page: key === '军' ? 'letters' : 'digits' };
  }
  if (key === '无牌') return editorOf(key);
  const token = [...key];
  if (ed.at >= 8 || (ed.at >= places(ed.chars, ed.wide) && key !== '临')) return ed;
  if (!allowed(ed.at, ed.chars, ed.wide).has(key)) return ed;
  const chars = ed.chars.slice();
  chars.splice(ed.at, token.length, ...token);
  return trim({ ...ed, chars, at: ed.at + token.length, page: '' });
}

/** Tap on a cell: the next key goes there. On the place after the last it means +新.
 * @param {Editor} ed @param {number} place @returns {Editor} */
export function pick(ed, place) {
  if (place === 7 && !ed.chars[7]) return { ...ed, wide: !ed.wide, at: Math.min(ed.chars.length, 7), page: '' };
  return { ...ed, at: Math.min(place, ed.chars.length), page: '' };
}

/** At the end one character goes; inside, everything from the picked place on.
 * @param {Editor} ed @returns {Editor} */
function back(ed) {
  if (ed.page) return { ...ed, page: '' };
  if (ed.at < ed.chars.length) return { ...ed, chars: ed.chars.slice(0, ed.at) };
  const gone = /^(应急|无牌|民航)$/.test(ed.chars.slice(-2).join('')) ? 2 : 1;
  const chars = ed.chars.slice(0, -gone);
  return { ...ed, chars, at: chars.length, wide: ed.wide && ed.chars.length > 7 };
}

/** What no longer fits behind a changed place falls away. @param {Editor} ed @returns {Editor} */
function trim(ed) {
  const most = Math.max(places(ed.chars, ed.wide), ed.at);
  return ed.chars.length > most ? { ...ed, chars: ed.chars.slice(0, most) } : ed;
}

/** The first place that cannot be what it is, or -1. @param {Editor} ed */
export function faultyPlace(ed) {
  return ed.chars.findIndex((char, i) => {
    const set = allowed(i, ed.chars, true);
    return !set.has(char) && !set.has(ed.chars.slice(i, i + 2).join(''));
  });
}

/** @type {Record<string, string>} */
const LOOK_ALIKES = {
  0: 'DQ8', D: '0Q', Q: '0D', 8: 'B3', B: '8', 3: '8', 2: 'Z7', Z: '2', 5: 'S', S: '5', 1: 'L7T', L: '1',
  T: '17', 7: '1T', 6: 'G', G: '6C', C: 'G', U: 'V', V: 'UY', Y: 'V', M: 'NH', N: 'MH', H: 'MN', 4: 'A',
  A: '4', P: 'R', R: 'P', E: 'F', F: 'E', K: 'X', X: 'K', 9: 'P',
  津: '沪浙', 沪: '津浙', 浙: '津湘', 湘: '浙渝', 渝: '湘', 晋: '鲁', 鲁: '晋', 鄂: '鲁', 京: '宁', 宁: '京', 甘: '吉',
  吉: '甘', 陕: '皖', 皖: '陕', 云: '贵', 贵: '云', 苏: '藏', 藏: '苏', 粤: '豫', 豫: '粤', 辽: '赣',
};

/** Characters a camera takes for this one, those that may stand here.
 * @param {Editor} ed @param {number} place */
export function lookAlikes(ed, place) {
  const set = allowed(place, ed.chars, ed.wide);
  return [...(LOOK_ALIKES[ed.chars[place]] ?? '')].filter(char => set.has(char));
}

const BY_NUMBER = Object.fromEntries(
  ('11京12津13冀14晋15蒙21辽22吉23黑31沪32苏33浙34皖35闽36赣37鲁41豫42鄂43湘44粤45桂46琼50渝51川52贵53云54藏61陕62甘63青'
    + '64宁65新').match(/\d\d./g)?.map(pair => [pair.slice(0, 2), pair[2]]) ?? []);

/** Two digits on a keypad: province by its administrative number, else letter by row and column.
 * @param {number} at @param {string} code @returns {string | null} */
export function byCode(at, code) {
  if (at === 0) return BY_NUMBER[code] ?? null;
  const [row, column] = [...code].map(Number);
  const inside = row >= 1 && row <= 4 && column >= 1 && column <= 6;
  return inside ? LETTERS[(row - 1) * 6 + column - 1] : null;
}

/** @param {string} letter @returns {string} what byCode reads: A → 11 */
export function codeOf(letter) {
  const index = LETTERS.indexOf(letter);
  return index < 0 ? '' : `${Math.floor(index / 6) + 1}${(index % 6) + 1}`;
}

/** A plate as people write it. @param {string} text */
export const spaced = text =>
  kind(text) === 'none' || text.length < 3 ? text : `${text.slice(0, 2)}·${text.slice(2)}`;

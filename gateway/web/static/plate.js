/** Pure; gateway/plate.py has the last word. An editor: {chars, at: place of the next key, wide: eighth place open, page of keys}. */

export const LETTERS = [...'ABCDEFGHJKLMNPQRSTUVWXYZ'];
export const DIGITS = [...'1234567890'];
/** In a fixed order: keys must not move. */
export const PROVINCES = [...'甘陕宁青新蒙川京津冀晋辽吉黑沪苏浙皖闽赣鲁豫鄂湘粤桂琼渝贵云藏'];
export const TAILS = [...'挂学警港澳领使试超临', '应急'];
export const STARTS = ['WJ', '军', '民航', '数字', '无牌'];

const CLASSES = { P: PROVINCES, L: LETTERS, D: DIGITS, A: [...LETTERS, ...DIGITS], E: [...'DABCEFGHJK'] };

/** Kind, the colour it suggests, what may stand at each place (domain.md §3.1). */
const SHAPES = `none 9 无 牌
energy 4 P L E A D D D D
energyLarge 5 P L D D D D D E
towed 1 P LO A A A A 挂学
police 3 P LO A A A A 警
border 2 P LO A A A A 港澳领使
civil 0 P LO A A A A A试超
emergency 12 P L A A A 应 急
emergency 12 P L A A A A 应 急
armed 3 W J P A A A A A
armed 3 W J A A A A A
military 3 LO LO A A A A A
embassy 2 使 D D D D D D
embassy 2 D D D D D D 使
aviation 11 民 航 A A A A A
temporary 7 P L A A A A 临
temporary 7 P L A A A A A 临`.split('\n').map(line => {
  const [name, colour, ...places] = line.split(' ');
  return { name, colour: Number(colour), places: places.map(place => [...place].flatMap(char => CLASSES[char] ?? char)) };
});

const begins = (shape, chars) => chars.length <= shape.places.length && chars.every((char, place) => shape.places[place].includes(char));

const shapeOf = text => {
  const chars = [...text.replace(/^无牌\d{1,8}$/, '无牌')];
  return SHAPES.find(shape => shape.places.length === chars.length && begins(shape, chars));
};

export const kind = text => shapeOf(text)?.name ?? null;

export const guessColour = text => shapeOf(text)?.colour ?? 0;

/** Legal, but rare. */
export const isUnusual = text => kind(text) === 'civil' && text.slice(2).replace(/[^A-Z]/g, '').length > 2;

export function places(chars, wide = false) {
  const fitting = SHAPES.filter(shape => begins(shape, chars)).map(shape => shape.places.length);
  return wide ? 8 : fitting.length ? Math.min(...fitting) : 7;
}

export function allowed(at, chars, wide = false) {
  const head = chars.slice(0, at);
  const fitting = SHAPES.filter(shape => begins(shape, head) && (wide || at < 7 || !shape.name.startsWith('energy')));
  const open = new Set(fitting.flatMap(shape => shape.places[at] ?? []));
  if (at === 0) STARTS.forEach(key => open.add(key));
  if (open.has('应')) open.add('应急');
  if (open.has('航')) open.add('民航');
  return open;
}

export const blank = () => ({ chars: [], at: 0, wide: false, page: '' });

export const editorOf = text => ({ chars: [...text], at: [...text].length, wide: /^energy/.test(kind(text) ?? ''), page: '' });

/** An impossible key gives the same object back. */
export function press(editor, key) {
  const { chars, at, wide } = editor;
  if (key === '退') return back(editor);
  if (key === '清') return blank();
  if (key === '更多') return { ...editor, page: editor.page ? '' : 'more' };
  if (at === 0 && (key === '军' || key === '数字')) return { ...editor, page: key === '军' ? 'letters' : 'digits' };
  if (key === '无牌') return editorOf(key);
  const isFull = at >= 8 || (at >= places(chars, wide) && key !== '临');
  if (isFull || !allowed(at, chars, wide).has(key)) return editor;
  const changed = chars.slice();
  changed.splice(at, key.length, ...key);
  const next = at + key.length;
  // What no longer fits behind a changed place falls away.
  return { ...editor, chars: changed.slice(0, Math.max(places(changed, wide), next)), at: next, page: '' };
}

export function pick(editor, place) {
  const isNew = place === 7 && !editor.chars[7];
  return { ...editor, wide: isNew ? !editor.wide : editor.wide, at: Math.min(editor.chars.length, place), page: '' };
}

function back(editor) {
  const { chars, at, page, wide } = editor;
  if (page) return { ...editor, page: '' };
  if (at < chars.length) return { ...editor, chars: chars.slice(0, at) };
  const rest = chars.slice(0, /^(应急|无牌|民航)$/.test(chars.slice(-2).join('')) ? -2 : -1);
  return { ...editor, chars: rest, at: rest.length, wide: wide && chars.length > 7 };
}

export const faultyPlace = ({ chars }) => chars.findIndex((char, place) => {
  const open = allowed(place, chars, true);
  return !open.has(char) && !open.has(chars.slice(place, place + 2).join(''));
});

const LOOK_ALIKES = '0DQ8 8B3 2Z7 5S 17LT 6GC UVY MNH 4A PR9 EF KX 津沪浙 浙湘渝 晋鲁鄂 京宁 甘吉 陕皖 云贵 苏藏 粤豫 辽赣'.split(' ');

export function lookAlikes(editor, place) {
  const char = editor.chars[place] ?? ' ';
  const alike = LOOK_ALIKES.filter(group => group.includes(char)).join('').replaceAll(char, '');
  const open = allowed(place, editor.chars, editor.wide);
  return [...new Set(alike)].filter(other => open.has(other));
}

/** Administrative numbers: row and column. */
const BY_NUMBER = ['', ' 京津冀晋蒙', ' 辽吉黑', ' 沪苏浙皖闽赣鲁', ' 豫鄂湘粤桂琼', '渝川贵云藏', ' 陕甘青宁新'];

export function byCode(at, code) {
  return at === 0 ? BY_NUMBER[code[0]]?.[code[1]]?.trim() || null : LETTERS.find(letter => codeOf(letter) === code) ?? null;
}

export function codeOf(letter) {
  const index = LETTERS.indexOf(letter);
  return index < 0 ? '' : `${Math.floor(index / 6) + 1}${(index % 6) + 1}`;
}

export const spaced = text => (kind(text) === 'none' || text.length < 3 ? text : `${text.slice(0, 2)}·${text.slice(2)}`);

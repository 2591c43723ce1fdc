// What sticks out, what is cut, what is too small to hit.
least => {
  const box = e => e.getBoundingClientRect();
  const visible = e => { const q = box(e); return q.width > 0 && q.height > 0 && getComputedStyle(e).clipPath === 'none'; };
  const all = (what, ...more) => [...document.querySelectorAll(what)].filter(visible).filter(e => more.every(test => test(e)));
  const name = e => `${e.className}:${(e.innerText || e.name || '').trim().slice(0, 12)}`;
  const scope = document.querySelector('.dialog') ? '.dialog ' : '';
  const targets = all(['button', 'label.button', 'input'].map(each => scope + each).join());
  const inScroll = e => e.closest('.scroll, .side, .dialog, .center, :is(.vehicles, .fares):has(.alert)');
  const small = targets.filter(e => {
    const { width, height } = box(e);
    return width < (e.matches('.cell, .colour') ? 40 : 44) || Math.round(height) < least;
  }).map(e => `${name(e)} ${Math.round(box(e).width)}x${Math.round(box(e).height)}`);
  const outside = all('button, h1, h2, p, dd, .alert, .plate, input, li', e => {
    const q = box(e);
    return q.right > innerWidth + 1 || q.left < -1 || (!inScroll(e) && q.bottom > innerHeight + 1);
  }).map(name);
  const over = all('.shell, .top, .strip, .steps, .work:not(.center), .bar, .say, .dialog, .side', e =>
    e.scrollWidth - e.clientWidth > 0 || (!e.matches('.dialog, .side, :is(.vehicles, .fares):has(.alert)') && e.scrollHeight - e.clientHeight > 0))
    .map(e => `${e.className} ${e.scrollWidth - e.clientWidth},${e.scrollHeight - e.clientHeight}`);
  const cut = targets.filter(e => !e.matches('.photo')).filter(e => e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1).map(name);
  return { small, outside, over, cut };
}

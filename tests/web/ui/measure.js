// What sticks out, what is cut, what is too small to hit.
() => {
  const visible = e => { const q = e.getBoundingClientRect(); return q.width > 0 && q.height > 0; };
  const inScroll = e => e.closest('.scroll, .side, .dialog');
  const buttons = [...document.querySelectorAll('button, label.button, input:not(.sr)')].filter(visible);
  const name = e => `${e.className}:${(e.innerText || e.name || '').trim().slice(0, 12)}`;
  const size = e => { const q = e.getBoundingClientRect(); return `${Math.round(q.width)}x${Math.round(q.height)}`; };
  const small = buttons.filter(e => { const q = e.getBoundingClientRect();
    const least = e.classList.contains('cell') || e.classList.contains('colour') ? 36 : 44;
    return q.width < least || q.height < 44; }).map(e => `${name(e)} ${size(e)}`);
  const outside = [...document.querySelectorAll('button, h1, h2, p, dd, .alert, .plate, input, li')].filter(visible).filter(e => {
    const q = e.getBoundingClientRect();
    return q.right > innerWidth + 1 || q.left < -1 || (!inScroll(e) && q.bottom > innerHeight + 1); }).map(name);
  const over = [...document.querySelectorAll('.shell, .top, .strip, .steps, .work, .bar, .say, .dialog')].filter(visible)
    .filter(e => e.scrollWidth - e.clientWidth > 0 || (!e.matches('.dialog') && e.scrollHeight - e.clientHeight > 0))
    .map(e => `${e.className} ${e.scrollWidth - e.clientWidth},${e.scrollHeight - e.clientHeight}`);
  const cut = buttons.filter(e => e.scrollWidth > e.clientWidth + 1).map(name);
  return { small, outside, over, cut };
}
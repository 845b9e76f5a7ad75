// Filters the rows. What is chosen is kept behind the # of the address, so a view can be linked:
// #q=TEXT&hide=added,removed&allowed=no
'use strict';
(() => {
  const rows = [...document.querySelectorAll('.row')].map(row => ({
    row,
    kind: row.dataset.kind,
    allowed: row.dataset.allowed === 'yes',
    text: row.querySelector('summary').textContent.toLowerCase(),
  }));
  const search = document.getElementById('q');
  const kinds = [...document.querySelectorAll('button[data-kind]')];
  const allowed = document.querySelector('button[data-allowed]');
  const open = document.getElementById('open');
  const shown = document.getElementById('shown');
  const isOn = button => button.getAttribute('aria-pressed') === 'true';

  function show() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const hidden = new Set(kinds.filter(button => !isOn(button)).map(button => button.dataset.kind));
    const withAllowed = !allowed || isOn(allowed);
    let count = 0;
    for (const { row, kind, allowed, text } of rows) {
      const fits = !hidden.has(kind) && (withAllowed || !allowed) && words.every(word => text.includes(word));
      row.hidden = !fits;
      count += fits;
    }
    shown.textContent = count === rows.length ? `${count} shown` : `${count} of ${rows.length} shown`;
  }

  function read() {
    const view = new URLSearchParams(location.hash.slice(1));
    search.value = view.get('q') || '';
    const hidden = (view.get('hide') || '').split(',');
    for (const button of kinds) button.setAttribute('aria-pressed', !hidden.includes(button.dataset.kind));
    if (allowed) allowed.setAttribute('aria-pressed', view.get('allowed') !== 'no');
    show();
  }

  function write() {
    const view = new URLSearchParams();
    if (search.value) view.set('q', search.value);
    const hidden = kinds.filter(button => !isOn(button)).map(button => button.dataset.kind);
    if (hidden.length) view.set('hide', hidden.join(','));
    if (allowed && !isOn(allowed)) view.set('allowed', 'no');
    history.replaceState(null, '', '#' + view);
    show();
  }

  search.addEventListener('input', write);
  document.getElementById('filter').addEventListener('submit', event => event.preventDefault());
  for (const button of allowed ? [...kinds, allowed] : kinds) {
    button.addEventListener('click', () => {
      button.setAttribute('aria-pressed', !isOn(button));
      write();
    });
  }
  open.addEventListener('click', () => {
    const visible = rows.filter(({ row }) => !row.hidden);
    const opens = visible.some(({ row }) => !row.open);
    for (const { row } of visible) row.open = opens;
    open.textContent = opens ? 'close all' : 'open all';
  });
  window.addEventListener('hashchange', read);
  read();
})();

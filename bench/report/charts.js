/* Draws the figures of the page from its embedded data. `figures` is the list; one without data is left out. */
'use strict';
(function () {
  if (typeof Chart === 'undefined') return; // built without it: the page says so
  const {results, axis: sweptAxis} = JSON.parse(document.getElementById('data').textContent);
  const entries = results.flatMap(result => result.runs.map(run => ({result, run, label: run.label})));
  const MOST_OVERLAID = 24, MOST_SHOWN = 8; // a legend has them all; those beyond MOST_SHOWN are drawn when clicked
  const evenly = (all, count) => all.length <= count ? all
    : Array.from({length: count}, (_, i) => all[Math.round(i * (all.length - 1) / (count - 1))]);
  const overlaid = evenly(entries, MOST_OVERLAID), shown = new Set(evenly(overlaid, MOST_SHOWN));
  let chosen = entries[0], charts = [], colour = {};

  // ---- values ----

  const at = (object, path) => path.split('/').reduce((o, key) => (o == null ? undefined : o[key]), object);
  const finite = value => typeof value === 'number' && Number.isFinite(value);
  const most = values => values.reduce((a, b) => (b > a ? b : a), -Infinity);
  const least = values => values.reduce((a, b) => (b < a ? b : a), Infinity);
  const points = (xs, ys) => xs.map((x, i) => ({x, y: ys[i]})).filter(p => finite(p.x) && finite(p.y));
  const log = kind => at(chosen.run, 'log/' + kind + '/columns');
  const warmup = () => at(chosen.run, 'window/warmup_s') || 0;
  const seconds = ns => ns * 1e-9 - warmup();

  function numberText(value) {
    const size = Math.abs(value);
    if (size === 0) return '0';
    if (size >= 1e6 || size < 1e-3) return value.toPrecision(3).replace(/e\+?/, 'e');
    if (size >= 1000) return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, '\u202f');
    return String(Number(value.toPrecision(3)));
  }

  // ---- colours: eight, then the same dashed, then dotted ----

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ['ink', 'soft', 'grid', 'line', 'shade', 'mark', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6', 'c7', 'c8'])
      colour[name] = style.getPropertyValue('--' + name).trim();
  }
  const series = i => colour['c' + (i % 8 + 1)];
  const dashes = i => [[], [7, 3], [2, 2]][Math.floor(i / 8) % 3];
  const faded = (hex, alpha) => hex + Math.round(alpha * 255).toString(16).padStart(2, '0');

  // ---- axes ----

  function axis(title, more) {
    return {
      type: 'linear', title: {display: title !== '', text: title, color: colour.soft, padding: 2},
      grid: {color: colour.grid, borderColor: colour.line, tickLength: 4},
      ticks: {color: colour.soft, maxRotation: 0, autoSkipPadding: 12, callback: numberText}, ...more,
    };
  }

  /* 1, 2, 5 of each decade; 1 alone where there are many decades. */
  function logAxis(title, min, max) {
    const decades = Math.log10(max / min), made = axis(title, {type: 'logarithmic', min, max});
    made.ticks.autoSkip = false;
    made.afterBuildTicks = scale => {
      const ticks = [];
      for (let e = Math.floor(Math.log10(min)); e <= Math.ceil(Math.log10(max)); e++)
        for (const m of decades > 4 ? [1] : decades > 1.5 ? [1, 3] : [1, 2, 3, 5, 7])
          if (m * 10 ** e >= min && m * 10 ** e <= max) ticks.push({value: Number((m * 10 ** e).toPrecision(6))});
      if (ticks.length >= 2) scale.ticks = ticks;
    };
    return made;
  }

  /* Logarithmic when the values span more than a factor of 30; 0 has no place there. */
  function valueAxis(title, values, zero) {
    const positive = values.filter(v => finite(v) && v > 0), low = least(positive), high = most(positive);
    const wide = positive.length && high / low > 30 && !zero;
    return wide ? logAxis(title, low * 0.9, high * 1.1) : axis(title, {beginAtZero: true, grace: '4%'});
  }

  function category(more) {
    const made = axis('', {type: 'category', grid: {display: false, borderColor: colour.line}, ...more});
    delete made.ticks.callback;
    made.ticks.autoSkip = false;
    return made;
  }

  /* 1, 2, 4, ... 64 stand evenly on a logarithmic axis. */
  function sweepAxis(xs) {
    const low = least(xs), high = most(xs), values = [...new Set(xs)].sort((a, b) => a - b);
    if (!(low > 0 && high / low >= 8)) return axis(sweptAxis, {beginAtZero: low >= 0});
    const made = logAxis(sweptAxis, low / 1.15, high * 1.15);
    if (values.length <= 12) made.afterBuildTicks = scale => { scale.ticks = values.map(value => ({value})); };
    return made;
  }

  // ---- marks: shaded stretches of time, lines at limits, and cells of a heat map ----

  const marks = {
    id: 'marks',
    beforeDatasetsDraw({ctx, chartArea: area, scales: {x, y}}, _, {bands = [], cells = []}) {
      ctx.save();
      ctx.font = '11px ' + Chart.defaults.font.family;
      for (const {from, to, label, low} of bands) {
        const left = Math.max(x.getPixelForValue(from), area.left);
        const width = Math.min(x.getPixelForValue(to), area.right) - left;
        if (width <= 0) continue;
        ctx.fillStyle = colour.shade;
        ctx.fillRect(left, area.top, width, area.height);
        ctx.fillStyle = colour.soft;
        const fits = width > ctx.measureText(label).width + 8;
        if (fits) ctx.fillText(label, left + 4, low ? area.bottom - 5 : area.top + 12);
      }
      for (const {from, to, low, high, share} of cells) {
        const left = x.getPixelForValue(from), top = y.getPixelForValue(high);
        const right = Math.min(x.getPixelForValue(to), area.right);
        ctx.fillStyle = faded(colour.c1, 0.12 + 0.83 * share);
        ctx.fillRect(left, top, right - left + 0.5, y.getPixelForValue(low) - top + 0.5);
      }
      ctx.restore();
    },
    afterDatasetsDraw({ctx, chartArea: area, scales}, _, {limits = []}) {
      ctx.save();
      ctx.font = '11px ' + Chart.defaults.font.family;
      ctx.strokeStyle = ctx.fillStyle = colour.mark;
      ctx.setLineDash([4, 3]);
      for (const {on, value, label} of limits) {
        const pixel = scales[on].getPixelForValue(value), upright = on === 'x';
        if (pixel < (upright ? area.left : area.top) || pixel > (upright ? area.right : area.bottom)) continue;
        const left = upright && pixel + ctx.measureText(label).width + 8 > area.right;
        ctx.beginPath();
        ctx.moveTo(upright ? pixel : area.left, upright ? area.top : pixel);
        ctx.lineTo(upright ? pixel : area.right, upright ? area.bottom : pixel);
        ctx.stroke();
        ctx.textAlign = left ? 'right' : 'left';
        if (upright) ctx.fillText(label, pixel + (left ? -4 : 4), area.bottom - 6);
        else ctx.fillText(label, area.left + 4, pixel - 4);
      }
      ctx.restore();
    },
  };

  // ---- legends: long ones make a figure taller and do not squeeze its plot ----

  function widthOf(text) {
    const pen = widthOf.pen = widthOf.pen || document.createElement('canvas').getContext('2d');
    pen.font = Chart.defaults.font.size + 'px ' + Chart.defaults.font.family;
    return pen.measureText(text).width;
  }

  /* A name wider than the legend loses its middle: what tells runs apart stands at the ends. */
  function shortened(label, width) {
    let kept = label.length, text = label;
    while (kept > 8 && widthOf(text) > width) {
      kept--;
      text = label.slice(0, Math.ceil(kept / 2)) + '\u2026' + label.slice(label.length - Math.floor(kept / 2));
    }
    return text;
  }

  const legendNames = chart => Chart.defaults.plugins.legend.labels.generateLabels(chart)
    .map(item => Object.assign(item, {text: shortened(item.text, chart.width - 60)}));

  function makeRoom(place, drawn, legend) {
    let rows = 1, used = 0;
    for (const {label} of legend ? drawn.datasets : []) {
      const wide = widthOf(label) + 30;
      if (used > 0 && used + wide > place.clientWidth - 20) { rows++; used = 0; }
      used += wide;
    }
    const bars = drawn.labels && !drawn.alike ? Math.max(0, drawn.labels.length * 26 + 90 - place.clientHeight) : 0;
    const twice = 2 * (rows * 22 + 12) + 20; // Chart.js gives a legend half at most
    if (rows > 1 || bars > 0) place.style.height = Math.max(place.clientHeight + bars + (rows - 1) * 22, twice) + 'px';
  }

  // ---- kinds: each makes {datasets, x, y, ...} from data, or nothing ----

  const line = (label, data, color, more) => ({
    label, data, borderColor: color, backgroundColor: color, borderWidth: 1.6, pointRadius: 0, ...more});
  const dots = (label, data, color, more) => ({
    label, data, type: 'scatter', showLine: false, pointRadius: 2, pointHoverRadius: 4, borderWidth: 0,
    borderColor: color, backgroundColor: faded(color, 0.55), ...more});
  const bars = (label, data, color, more) => ({
    label, data, backgroundColor: color, barPercentage: 0.7, maxBarThickness: 34, ...more});

  function sloLimits(metric, on) {
    const value = at(entries[0].run, 'slo/limits_ms/' + (metric === 'itl' ? 'itl_p99' : metric));
    return finite(value) && value > 0 ? [{on, value, label: 'SLO ' + numberText(value) + ' ms'}] : [];
  }

  const place = p => -Math.log10(1 - p / 100); // P0, P90, P99, ... at 0, 1, 2, ...

  function distribution({metric, by}) {
    const isCdf = by === 'cdf', limits = sloLimits(metric, isCdf ? 'x' : 'y'), named = [0, 50, 90, 99, 99.9, 99.99];
    const curves = overlaid.map((entry, i) => ({entry, i, ...at(entry.run, 'latency/' + metric + '/curve')}))
      .filter(curve => curve.p && curve.p.length);
    const values = valueAxis('ms', curves.flatMap(curve => curve.value).concat(limits.map(l => l.value)));
    const last = most(curves.flatMap(curve => curve.p.filter(p => p < 100)));
    const percentiles = axis('percentile', {min: 0, max: place(last)});
    const ticks = named.filter(p => p <= last).map(p => ({value: place(p)}));
    percentiles.afterBuildTicks = scale => { scale.ticks = ticks; };
    percentiles.ticks.callback = value => 'P' + Number((100 * (1 - 10 ** -value)).toFixed(2));
    return {
      type: 'line', limits, x: isCdf ? values : percentiles,
      y: isCdf ? axis('% of samples', {min: 0, max: 100}) : values,
      datasets: curves.map(({entry, i, p, value}) => line(
        entry.label, isCdf ? points(value, p) : points(p.map(place), value), series(i),
        {borderDash: dashes(i), hidden: !shown.has(entry)}))};
  }

  /* The same cause has the same name and colour everywhere; what others' prompts or a preemption cost is paler. */
  const causes = {
    generator: ['generator', 'c6', 0.4], queue: ['queue', 'c6', 1], encoder: ['encoder', 'c4', 0.5],
    own_prefill: ['own prefill', 'c5', 1], other_prefill: ['prefill of others', 'c5', 0.5],
    projections: ['projections', 'c1', 1], attention: ['attention', 'c2', 1], logits: ['logits', 'c3', 0.6],
    rowwise: ['row-wise', 'c4', 1], sampling: ['logits and sampling', 'c3', 1], scheduler: ['scheduler', 'c7', 1],
    barrier: ['barriers', 'c8', 1], recompute: ['recompute', 'c2', 0.5], other: ['other', 'c6', 0.2],
  };
  const causeBars = (names, data) => names.map(name => {
    const [label, color, alpha] = causes[name] || [name.replace(/_/g, ' '), 'c6', 0.2];
    return bars(label, data(name), faded(colour[color], alpha));
  });

  const stackedBars = (labels, datasets, x, more) => ({
    type: 'bar', flat: true, legend: true, labels, datasets: labels.length ? datasets : [], x,
    y: category({stacked: true}), ...more});

  /* {"50": {cause: ms, ...}, "99": ...} as one bar per percentile. */
  function attribution({metric}) {
    const bands = at(chosen.run, 'attribution/' + metric) || {}, percentiles = Object.keys(bands);
    const names = Object.keys(causes).filter(cause => percentiles.some(p => bands[p][cause] > 0));
    const sets = causeBars(names, name => percentiles.map(p => bands[p][name] || 0));
    return stackedBars(percentiles.map(p => 'P' + p), sets, axis('ms', {stacked: true}), {alike: true});
  }

  function stages() {
    const rows = overlaid.filter(e => at(e.run, 'steps/stage_s') && at(e.run, 'steps/time_s'));
    const busy = ({run: {steps: {time_s: t}}}) => t.encoder + t.prefill + t.decode;
    const share = (e, name) => 100 * (e.run.steps.stage_s[name] || 0) / busy(e);
    const names = Object.keys(causes).filter(name => name !== 'other' && rows.some(e => share(e, name) > 0.05));
    const rest = e => Math.max(0, 100 - names.reduce((sum, name) => sum + share(e, name), 0));
    const sets = causeBars([...names, 'other'], name => rows.map(e => name === 'other' ? rest(e) : share(e, name)));
    names.forEach((name, i) => { if (name === 'sampling') sets[i].label = 'sampling'; }); // logits are apart here
    const x = axis('% of the time of all steps', {stacked: true, min: 0, max: 100});
    return stackedBars(rows.map(e => e.label), sets, x);
  }

  // ---- over time, of the chosen run ----

  const ALIGNED = {afterFit: scale => { scale.width = 62; }}; // seconds stand above each other from chart to chart
  function timeline() {
    const s = chosen.run.series;
    return s && finite(s.dt_s) && Array.isArray(s.running) ? s : null;
  }
  const timeEnd = s => s ? s.running.length * s.dt_s - warmup() : undefined;

  function timeAxis() {
    const made = axis('s', {min: warmup() > 0 ? -warmup() : 0, max: timeEnd(timeline())});
    made.ticks.includeBounds = false;
    return made;
  }

  function timeBands() {
    const s = timeline(), end = timeEnd(s), length = at(chosen.run, 'window/length_s'), bands = [];
    if (warmup() > 0) bands.push({from: -warmup(), to: 0, label: 'warm-up'});
    if (s && finite(length) && end > length + s.dt_s) bands.push({from: length, to: end, label: 'after the window'});
    for (const second of (s && s.contaminated) || []) { // seconds that follow each other as one
      const last = bands[bands.length - 1], from = second - warmup();
      const stretch = {to: Math.min(from + 1, end), next: second + 1};
      if (last && last.low && last.next === second) Object.assign(last, stretch);
      else bands.push({from, ...stretch, label: 'disturbed', low: true});
    }
    return bands;
  }

  function overTime({unit, columns, scale = 1, y}) {
    const s = timeline(), known = columns.filter(([name]) => s && s[name]);
    const middles = known.length && s[known[0][0]].map((_, i) => (i + 0.5) * s.dt_s - warmup());
    return {type: 'line', bands: timeBands(), x: timeAxis(), y: axis(unit, {beginAtZero: true, ...ALIGNED, ...y}),
            datasets: known.map(([name, label, color]) =>
              line(label, points(middles, s[name].map(v => v * scale)), colour[color]))};
  }

  const rowsOf = steps => steps.rows.map((r, i) => r + steps.rows_encoder[i]);
  const stepTimes = steps => steps.t_ns.map((_, i) =>
    (steps.plan_us[i] + steps.forward_us[i] + steps.sample_us[i] + steps.commit_us[i]) * 1e-3);

  function composition() {
    const steps = log('steps');
    if (!steps) return null;
    const parts = [['decode', steps.rows.map((r, i) => r - steps.rows_prefill[i]), colour.c1],
                   ['prefill', steps.rows_prefill, colour.c2], ['encoder', steps.rows_encoder, colour.c4]];
    return {type: 'line', legend: true, bands: timeBands(), x: timeAxis(),
            y: axis('rows', {stacked: true, beginAtZero: true, ...ALIGNED}),
            datasets: parts.filter(([, rows]) => most(rows) > 0).map(([label, rows, color], i) =>
              line(label, points(steps.t_ns.map(seconds), rows), color, {
                fill: i === 0 ? 'origin' : '-1', backgroundColor: faded(color, 0.7), borderWidth: 0, stepped: true}))};
  }

  /* When steps of how many rows ran: cells of time by rows, the deeper the more of that time. */
  function heat() {
    const steps = log('steps'), s = timeline(), COLUMNS = 120;
    if (!steps || !s) return null;
    const width = s.running.length * s.dt_s / COLUMNS, rows = rowsOf(steps), times = stepTimes(steps);
    const bin = r => Math.floor(2 * Math.log2(Math.max(r, 1))), edge = b => 2 ** (b / 2);
    const cells = new Map(), total = new Array(COLUMNS).fill(0);
    rows.forEach((r, i) => {
      const column = Math.min(COLUMNS - 1, Math.floor(steps.t_ns[i] * 1e-9 / width)), key = column + ' ' + bin(r);
      const from = column * width - warmup(), low = edge(bin(r)), high = edge(bin(r) + 1);
      if (!cells.has(key)) cells.set(key, {column, from, to: from + width, low, high, time: 0});
      cells.get(key).time += times[i];
      total[column] += times[i];
    });
    return {type: 'scatter', bands: timeBands(), empty: true, datasets: [{label: 'rows', data: []}], x: timeAxis(),
            y: {...logAxis('rows of a step', 1, edge(bin(most(rows)) + 1)), ...ALIGNED},
            cells: [...cells.values()].map(cell => ({...cell, share: cell.time / total[cell.column]}))};
  }

  function arrivals() {
    const requests = log('requests');
    if (!requests) return null;
    const data = points(requests.a.map(seconds), requests.f.map((f, i) => f >= 0 ? (f - requests.a[i]) * 1e-6 : NaN));
    if (!(most(data.map(p => p.x)) - least(data.map(p => p.x)) > 0.1)) return null; // offline all are due at once
    return {type: 'scatter', bands: timeBands(), x: timeAxis(), y: {...valueAxis('ms', data.map(p => p.y)), ...ALIGNED},
            datasets: [dots('request', data, colour.c1)]};
  }

  function lives() {
    const q = log('requests');
    if (!q) return null;
    const ended = q.a.map((_, i) => i).filter(i => q.f[i] >= 0 && q.e[i] >= 0 && q.s[i] >= 0);
    const sample = evenly(ended, 40).sort((i, j) => q.a[i] - q.a[j]);
    const full = {barPercentage: 0.8, categoryPercentage: 1};
    const part = (label, from, to, color) =>
      bars(label, sample.map(i => [seconds(q[from][i]), seconds(q[to][i])]), color, full);
    const parts = [part('queue', 'a', 's', faded(colour.c6, 0.55)), part('prefill', 's', 'f', colour.c2),
                   part('decode', 'f', 'e', colour.c1)];
    const title = {display: true, text: 'requests', color: colour.soft};
    return stackedBars(sample, parts, timeAxis(), {
      alike: true, bands: timeBands().map(band => ({...band, label: ''})),
      y: category({stacked: true, title, ticks: {display: false}, ...ALIGNED})});
  }

  // ---- steps and the roofline ----

  /* {bandwidth GB/s, peak GFLOP/s} of the chosen run's result, or null. */
  function roofOf() {
    const median = name => at(chosen.result, 'limits/' + name + '/median'), bandwidth = at(chosen.run, 'speed_of_light/read_gbs') || median('read_gbs');
    const dtype = at(chosen.result, 'model/weight_dtype') || '', others = ['bf16_gflops', 'f32_gflops'];
    const own = dtype === 'f32' ? ['f32_gflops'] : dtype.startsWith('int8') ? ['int8_gops'] : [];
    const peak = own.concat(others).find(name => finite(median(name)));
    return finite(bandwidth) && peak ? {bandwidth, peak: median(peak), name: peak.replace(/_.*/, '')} : null;
  }

  function byClass(steps, xs, ys) {
    const kind = i => steps.rows_encoder[i] > 0 ? 2 : steps.rows_prefill[i] > 0 ? 1 : 0;
    return [['decode only', 'c1'], ['with prefill', 'c2'], ['with encoder', 'c4']].map(([name, color], k) =>
      dots(name, points(xs.map((x, i) => kind(i) === k ? x : NaN), ys), colour[color])).filter(set => set.data.length);
  }

  function stepTime({x: title, of}) {
    const steps = log('steps'), xs = steps && of(steps);
    if (!steps || !(most(xs) > 0)) return null;
    const floors = steps.floor_us.map(us => finite(us) ? us * 1e-3 : NaN), floor = points(xs, floors);
    const times = stepTimes(steps), datasets = byClass(steps, xs, times);
    if (floor.length) datasets.push(dots('floor', floor, colour.c5, {pointRadius: 1.5, pointStyle: 'rect'}));
    return {type: 'scatter', legend: true, datasets, x: valueAxis(title, xs), y: valueAxis('ms', times.concat(floors))};
  }

  function roofline() {
    const steps = log('steps'), roof = roofOf();
    if (!steps) return null;
    const times = stepTimes(steps), positive = values => values.filter(v => finite(v) && v > 0);
    const xs = steps.flops.map((f, i) => f / steps.bytes[i]), ys = steps.flops.map((f, i) => f / times[i] * 1e-6);
    const seenX = positive(xs), seenY = positive(ys), datasets = byClass(steps, xs, ys);
    if (!seenX.length) return null;
    let minX = least(seenX) / 1.5, maxX = most(seenX) * 1.5, maxY = most(seenY) * 2;
    if (roof) {
      const ridge = roof.peak / roof.bandwidth, corner = {x: ridge, y: roof.peak};
      minX = Math.min(minX, ridge / 2), maxX = Math.max(maxX, ridge * 2), maxY = Math.max(maxY, roof.peak * 1.5);
      const slope = [{x: minX, y: minX * roof.bandwidth}, corner], flat = [corner, {x: maxX, y: roof.peak}];
      datasets.push(line('read ' + numberText(roof.bandwidth) + ' GB/s', slope, colour.c5, {type: 'line'}),
                    line(roof.name + ' peak ' + numberText(roof.peak) + ' GFLOP/s', flat, colour.c3, {type: 'line'}));
    }
    return {type: 'scatter', legend: true, datasets, x: logAxis('FLOP per byte that must move', minX, maxX),
            y: logAxis('GFLOP/s', least(seenY) / 1.5, maxY)};
  }

  // ---- workload and sweep ----

  function histogram({column}) {
    const requests = log('requests'), whole = column !== 'gap';
    const thin = at(chosen.run, 'log/requests/count') > at(chosen.run, 'log/requests/shown');
    if (!requests || (!whole && thin)) return null;
    const gaps = () => requests.a.slice(1).map((a, i) => (a - requests.a[i]) * 1e-9);
    const values = (whole ? requests[column] || [] : gaps()).filter(finite), low = least(values), high = most(values);
    if (!(high > 0)) return null;
    const width = whole ? Math.max(1, Math.ceil((high - low + 1) / 30)) : (high - low || 1) / 30;
    const counts = new Array(Math.floor((high - low) / width) + 1).fill(0);
    for (const v of values) counts[Math.floor((v - low) / width)]++;
    const data = counts.map((y, i) => ({x: low + (i + 0.5) * width - (whole ? 0.5 : 0), y}));
    const pad = data.length < 3 ? Math.max(width, high * 0.2) : width / 2, y = axis('requests', {beginAtZero: true});
    const x = axis(whole ? 'tokens' : 's', {min: data[0].x - pad, max: data[data.length - 1].x + pad, offset: false});
    x.grid.offset = false, x.ticks.includeBounds = false, y.ticks.precision = 0;
    const set = bars('requests', data, colour.c1, {barPercentage: 1, categoryPercentage: 0.92, maxBarThickness: 40});
    return {type: 'bar', x, y, datasets: [set]};
  }

  /* Over the repetitions; NaN where one has none. */
  function mean(result, path) {
    const values = result.runs.map(run => at(run, path));
    return values.every(finite) ? values.reduce((a, b) => a + b, 0) / values.length : NaN;
  }

  /* A curve for each combination of the other axes; results are in the order of the axis. */
  function swept({x, xTitle, y, unit, metric, needsSlo}) {
    const curves = new Map(), limits = metric ? sloLimits(metric, 'y') : [];
    const hasSlo = r => Object.values(at(r, 'runs/0/slo/limits_ms') || {}).some(finite);
    if (needsSlo && !results.every(hasSlo)) return null;
    for (const r of results) {
      if (!curves.has(r.curve)) curves.set(r.curve, {label: r.curve || 'all', xs: [], ys: []});
      curves.get(r.curve).xs.push(x ? mean(r, x) : r.x);
      curves.get(r.curve).ys.push(mean(r, y));
    }
    const datasets = [...curves.values()].map(({label, xs, ys}, i) =>
      line(label, points(xs, ys), series(i), {pointRadius: 3, borderDash: dashes(i)})).filter(d => d.data.length);
    const all = datasets.flatMap(d => d.data), ys = all.map(p => p.y);
    if (x) return {type: 'line', datasets, x: axis(xTitle, {beginAtZero: true}), y: axis(unit, {beginAtZero: true})};
    return {type: 'line', datasets, limits, x: sweepAxis(all.map(p => p.x)),
            y: valueAxis(unit, ys.concat(limits.map(l => l.value)), !(least(ys) > 0))};
  }

  // ---- the list ----

  const latencies = [
    ['ttft', 'Time to first token (TTFT), from the due time', 'TTFT'],
    ['itl', 'Inter-token latency (ITL), pooled', 'ITL'],
    ['tpot', 'Time per output token (TPOT), mean of a request', 'TPOT'], ['e2el', 'End to end (E2E)', 'E2E']];
  const sweeps = [
    {id: 'throughput', title: 'Output tokens per second', y: 'throughput/output_tokens/value', unit: 'tok/s'},
    {id: 'ttft', title: 'Time to first token (TTFT), median', metric: 'ttft', y: 'latency/ttft/p/50', unit: 'ms'},
    {id: 'tpot', title: 'Time per output token (TPOT), median', metric: 'tpot', y: 'latency/tpot/p/50', unit: 'ms'},
    {id: 'e2el', title: 'End to end (E2E), median', metric: 'e2el', y: 'latency/e2el/p/50', unit: 'ms'},
    {id: 'goodput', title: 'Goodput: requests that met every SLO', needsSlo: true, y: 'throughput/goodput/value',
     unit: 'requests/s'},
    {id: 'pareto', title: 'Throughput against speed for one user', x: 'throughput/output_tokens_per_user/value',
     xTitle: 'tok/s for one user (1 / mean TPOT)', y: 'throughput/output_tokens/value',
     unit: 'output tok/s, all users'}];
  const timelines = [
    {id: 'output', title: 'Output tokens per second', unit: 'tok/s', columns: [['output_tokens', 'output', 'c1']]},
    {id: 'input', title: 'Input tokens computed per second', unit: 'tok/s', columns: [['input_tokens', 'input', 'c2']]},
    {id: 'queue', title: 'Sequences running and waiting', unit: 'sequences',
     columns: [['running', 'running', 'c1'], ['waiting', 'waiting', 'c2']]},
    {id: 'kv', title: 'KV cache in use', unit: '% of blocks', scale: 100, columns: [['kv_usage', 'KV use', 'c3']],
     y: {suggestedMax: 1}}];
  const lengths = {num_prompt_tokens: 'Prompt length', num_output_tokens: 'Output length',
                   num_encoder_tokens: 'Encoder input length', gap: 'Time between arrivals'};
  const figures = [
    ...sweeps.map(figure => ({...figure, id: 'sweep-' + figure.id, in: 'sweep', make: swept})),
    ...latencies.flatMap(([metric, title, short]) => [
      {id: metric + '-cdf', title, in: 'latency', make: distribution, metric, by: 'cdf'},
      {id: metric + '-percentiles', title: short + ' by percentile', in: 'latency', make: distribution, metric}]),
    {id: 'ttft-causes', title: 'What TTFT consists of', in: 'latency', make: attribution, metric: 'ttft'},
    {id: 'itl-causes', title: 'What ITL consists of', in: 'latency', make: attribution, metric: 'itl'},
    ...timelines.map(figure => ({...figure, in: 'time', make: overTime})),
    {id: 'composition', title: 'Composition of each step\u2019s batch', in: 'time', make: composition},
    {id: 'heat', title: 'Rows of the steps: the deeper, the more of the time of each slice', in: 'time', make: heat},
    {id: 'arrivals', title: 'TTFT of each request, by its due time', in: 'time', make: arrivals},
    {id: 'lives', title: 'Lives of sampled requests', in: 'time', make: lives, size: 'tall'},
    {id: 'roofline', title: 'Roofline: each step\u2019s arithmetic intensity and speed', in: 'steps', make: roofline,
     size: 'high'},
    {id: 'step-rows', title: 'Step time against rows', in: 'steps', make: stepTime,
     x: 'rows (tokens computed in the step)', of: rowsOf},
    {id: 'step-kv', title: 'Step time against keys and values read', in: 'steps', make: stepTime,
     x: 'MB of keys and values', of: steps => steps.kv_bytes.map(b => b * 1e-6)},
    {id: 'stages', title: 'Where the time of the steps goes', in: 'steps', make: stages, size: 'low span'},
    ...Object.entries(lengths).map(([column, title]) => (
      {id: column, title, in: 'workload', make: histogram, column})),
  ];

  // ---- the page ----

  function tooltip({raw, dataset}, scales) {
    if (Array.isArray(raw)) return dataset.label + ': ' + raw.map(numberText).join(' to ');
    if (raw === null || typeof raw !== 'object') return dataset.label + ': ' + numberText(Number(raw));
    const withUnit = key => numberText(raw[key]) + ' ' + (at(scales, key + '/title/text') || '');
    return dataset.label + ': ' + withUnit('x') + ', ' + withUnit('y');
  }

  function draw(figure, drawn) {
    const {x, y, bands, cells, limits, labels, datasets} = drawn, display = drawn.legend || datasets.length > 1;
    makeRoom(figure.lastChild, drawn, display);
    charts.push(new Chart(figure.querySelector('canvas'), {
      type: drawn.type, data: {labels, datasets}, plugins: [marks],
      options: {
        animation: false, responsive: true, maintainAspectRatio: false, normalized: false, scales: {x, y},
        indexAxis: drawn.flat ? 'y' : 'x', interaction: {mode: 'nearest', intersect: false, axis: 'xy'},
        layout: {padding: {top: 4, right: 10}},
        plugins: {
          marks: {bands, cells, limits}, tooltip: {callbacks: {label: item => tooltip(item, {x, y})}},
          legend: {display, align: 'start', labels: {
            color: colour.ink, boxWidth: 10, boxHeight: 10, padding: 10, usePointStyle: true, pointStyle: 'rectRounded',
            generateLabels: legendNames}},
        },
      },
    }));
  }

  function addFigure(figure) {
    const made = document.createElement('figure'), drawn = figure.make(figure);
    if (!drawn || !(drawn.datasets.some(set => set.data.length) || drawn.empty)) return;
    made.id = 'figure-' + figure.id;
    made.className = /high|span/.test(figure.size) ? 'span' : '';
    made.innerHTML = '<figcaption></figcaption><div><canvas></canvas></div>';
    made.firstChild.textContent = figure.title;
    made.lastChild.className = figure.size || (/time|workload/.test(figure.in) ? 'low' : '');
    document.querySelector(`[data-figures=${figure.in}]`).append(made);
    draw(made, drawn);
  }

  function drawAll() {
    charts.forEach(chart => chart.destroy());
    charts = [];
    readColours();
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    Chart.defaults.font.size = 11.5;
    const groups = [...document.querySelectorAll('[data-figures]')], note = document.querySelector('.overlaid');
    for (const group of groups) group.replaceChildren(), group.hidden = false;
    for (const figure of figures) if (groups.some(group => group.dataset.figures === figure.in)) addFigure(figure);
    for (const group of groups) group.hidden = !group.firstChild;
    document.getElementById('time').hidden = !document.querySelector('#time figure');
    document.querySelector('.attribution').hidden = !document.querySelector('[id$=-causes]');
    note.hidden = entries.length <= MOST_SHOWN;
    note.textContent = `${shown.size} of ${entries.length} runs are drawn; ` +
      'a click on a name in a legend draws or hides its curve.';
  }

  /* Charts of a single run: which one. */
  function offerChoice() {
    const select = document.createElement('select');
    entries.forEach((entry, i) => select.add(new Option(entry.label, i)));
    select.addEventListener('change', () => { chosen = entries[Number(select.value)]; drawAll(); });
    const text = 'Charts over time, of steps and of the workload are of';
    if (entries.length > 1) document.querySelector('#time .chosen').append(text, select);
  }

  document.documentElement.classList.add('scripted');
  offerChoice();
  drawAll();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);
  document.documentElement.dataset.drawn = charts.length;
})();

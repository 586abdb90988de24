/* Draws the figures of the page from the embedded results. A figure without data is hidden. */
'use strict';
(function () {
  const results = JSON.parse(document.getElementById('data').textContent);
  const entries = results.flatMap(result => result.runs.map((run, i) => ({
    result, run, label: result.shown_as + (result.runs.length > 1 ? ' #' + (i + 1) : ''),
  })));
  const MOST_OVERLAID = 24, MOST_SHOWN = 8; // a legend has them all; those beyond MOST_SHOWN are drawn when clicked
  const evenly = (all, count) => all.length <= count ? all : Array.from({length: count}, (_, i) => all[Math.round(i * (all.length - 1) / (count - 1))]);
  const overlaid = evenly(entries, MOST_OVERLAID);
  const shown = new Set(evenly(overlaid, MOST_SHOWN));
  let chosen = entries[0];
  let charts = [];
  let colour = {};

  // ---- small helpers ----

  const at = (object, path) => path.split('/').reduce((o, key) => (o == null ? undefined : o[key]), object);
  const finite = value => typeof value === 'number' && Number.isFinite(value);
  const points = (xs, ys) => xs.map((x, i) => ({x, y: ys[i]})).filter(p => finite(p.x) && finite(p.y));
  const most = values => values.reduce((a, b) => (b > a ? b : a), -Infinity);
  const least = values => values.reduce((a, b) => (b < a ? b : a), Infinity);
  const log = (entry, kind) => at(entry.run, 'log/' + kind + '/columns');
  const warmup = entry => at(entry.run, 'window/warmup_s') || 0;

  function figureText(value) {
    const size = Math.abs(value);
    if (size === 0) return '0';
    if (size >= 1e6 || size < 1e-3) return value.toPrecision(3).replace(/e\+?/, 'e');
    if (size >= 1000) return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, '\u202f');
    return String(Number(value.toPrecision(3)));
  }

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ['ink', 'soft', 'grid', 'line', 'shade', 'mark', 'paper', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6', 'c7', 'c8'])
      colour[name] = style.getPropertyValue('--' + name).trim();
  }

  /* Eight colours, then the same dashed, then dotted. */
  const series = i => colour['c' + (i % 8 + 1)];
  const dashes = i => [[], [7, 3], [2, 2]][Math.floor(i / 8) % 3];
  const faded = (hex, alpha) => hex + Math.round(alpha * 255).toString(16).padStart(2, '0');

  // ---- marks: shaded stretches and labelled lines ----

  const marks = {
    id: 'marks',
    beforeDatasetsDraw(chart, _, options) {
      const {ctx, chartArea: area, scales} = chart;
      ctx.save();
      for (const band of options.bands || []) {
        const from = Math.max(scales.x.getPixelForValue(band.from), area.left);
        const to = Math.min(scales.x.getPixelForValue(band.to), area.right);
        if (to <= from) continue;
        ctx.fillStyle = colour.shade;
        ctx.fillRect(from, area.top, to - from, area.height);
        ctx.fillStyle = colour.soft;
        ctx.font = '11px ' + Chart.defaults.font.family;
        if (band.label && to - from > ctx.measureText(band.label).width + 8) ctx.fillText(band.label, from + 4, band.low ? area.bottom - 5 : area.top + 12);
      }
      ctx.restore();
    },
    afterDatasetsDraw(chart, _, options) {
      const {ctx, chartArea: area, scales} = chart;
      ctx.save();
      ctx.font = '11px ' + Chart.defaults.font.family;
      ctx.strokeStyle = ctx.fillStyle = colour.mark;
      ctx.setLineDash([4, 3]);
      for (const line of options.vertical || []) {
        const x = scales.x.getPixelForValue(line.at);
        if (x < area.left || x > area.right) continue;
        stroke(ctx, x, area.top, x, area.bottom);
        const left = x + ctx.measureText(line.label).width + 8 > area.right;
        ctx.textAlign = left ? 'right' : 'left';
        ctx.fillText(line.label, x + (left ? -4 : 4), area.bottom - 6);
      }
      for (const line of options.horizontal || []) {
        const y = scales.y.getPixelForValue(line.at);
        if (y < area.top || y > area.bottom) continue;
        stroke(ctx, area.left, y, area.right, y);
        ctx.textAlign = 'left';
        ctx.fillText(line.label, area.left + 4, y - 4);
      }
      ctx.restore();
    },
  };

  function stroke(ctx, x0, y0, x1, y1) {
    ctx.beginPath();
    ctx.moveTo(x0, y0);
    ctx.lineTo(x1, y1);
    ctx.stroke();
  }

  // ---- axes and datasets ----

  function axis(title, more) {
    return Object.assign({
      type: 'linear',
      title: {display: true, text: title, color: colour.soft, padding: 2},
      grid: {color: colour.grid, borderColor: colour.line, tickLength: 4},
      ticks: {color: colour.soft, maxRotation: 0, autoSkipPadding: 12, callback: value => figureText(value)},
    }, more);
  }

  /* 1, 2, 5 of each decade; 1 alone where there are many decades. */
  function logAxis(title, min, max, more) {
    const decades = Math.log10(max / min);
    const made = axis(title, Object.assign({type: 'logarithmic', min, max}, more));
    made.ticks.autoSkip = false;
    made.afterBuildTicks = scale => {
      const ticks = [];
      for (let e = Math.floor(Math.log10(scale.min)); e <= Math.ceil(Math.log10(scale.max)); e++)
        for (const m of decades > 4 ? [1] : decades > 1.5 ? [1, 3] : [1, 2, 3, 5, 7])
          if (m * 10 ** e >= scale.min && m * 10 ** e <= scale.max) ticks.push({value: Number((m * 10 ** e).toPrecision(6))});
      if (ticks.length >= 2) scale.ticks = ticks;
    };
    return made;
  }

  /* Logarithmic when the values span more than a factor of 30. */
  function valueAxis(title, values) {
    const positive = values.filter(v => finite(v) && v > 0);
    const low = least(positive), high = most(positive);
    return positive.length && high / low > 30 ? logAxis(title, low * 0.9, high * 1.1) : axis(title, {beginAtZero: true, grace: '4%'});
  }

  function line(label, data, color, more) {
    return Object.assign({label, data, borderColor: color, backgroundColor: color, borderWidth: 1.6, pointRadius: 0, tension: 0}, more);
  }

  function dots(label, data, color, more) {
    return Object.assign({
      label, data, type: 'scatter', showLine: false, pointRadius: 2, pointHoverRadius: 4, borderWidth: 0,
      backgroundColor: faded(color, 0.55), borderColor: color,
    }, more);
  }

  function legendPen() {
    const pen = document.createElement('canvas').getContext('2d');
    pen.font = Chart.defaults.font.size + 'px ' + Chart.defaults.font.family;
    return pen;
  }

  /* A name wider than the legend loses its middle: what tells runs apart stands at the ends. */
  function shortened(label, width) {
    const pen = legendPen();
    let kept = label.length, text = label;
    while (kept > 8 && pen.measureText(text).width > width) {
      kept--;
      text = label.slice(0, Math.ceil(kept / 2)) + '\u2026' + label.slice(label.length - Math.floor(kept / 2));
    }
    return text;
  }

  const legendNames = chart => Chart.defaults.plugins.legend.labels.generateLabels(chart)
    .map(item => Object.assign(item, {text: shortened(item.text, chart.width - 60)}));

  /* Rows of a legend, as Chart.js lays them out. */
  function legendRows(labels, width) {
    const pen = legendPen();
    let rows = 1, used = 0;
    for (const label of labels) {
      const wide = pen.measureText(label).width + 30;
      if (used > 0 && used + wide > width) { rows++; used = 0; }
      used += wide;
    }
    return rows;
  }

  /* A long legend, and bars for many runs, make a figure taller; they do not squeeze the picture. */
  function makeRoom(figure, wanted, data) {
    const place = figure.querySelector('div');
    place.style.height = '';
    const rows = wanted.legend ? legendRows(data.datasets.map(d => d.label), place.clientWidth - 20) : 1;
    const bars = wanted.bars ? Math.max(0, wanted.bars * 26 + 90 - place.clientHeight) : 0;
    const legend = rows * 22 + 12; // Chart.js gives it half of the figure at the most, and lets it run into the plot
    if (rows > 1 || bars > 0) place.style.height = Math.max(place.clientHeight + bars + (rows - 1) * 22, 2 * legend + 20) + 'px';
  }

  function draw(figure, type, data, scales, more) {
    const wanted = Object.assign({legend: data.datasets.length > 1, marks: {}}, more);
    figure.hidden = false;
    makeRoom(figure, wanted, data);
    charts.push(new Chart(figure.querySelector('canvas'), {
      type, data, plugins: wanted.plugin ? [marks, wanted.plugin] : [marks],
      options: Object.assign({
        animation: false, responsive: true, maintainAspectRatio: false, normalized: false, scales,
        interaction: {mode: 'nearest', intersect: false, axis: 'xy'},
        layout: {padding: {top: 4, right: 10}},
        plugins: {
          marks: wanted.marks,
          legend: {display: wanted.legend, align: 'start', labels: {color: colour.ink, boxWidth: 10, boxHeight: 10, padding: 10, usePointStyle: true, pointStyle: 'rectRounded', generateLabels: legendNames}},
          tooltip: {callbacks: {label: item => tooltip(item, scales)}},
        },
      }, wanted.options),
    }));
  }

  function tooltip(item, scales) {
    const raw = item.raw;
    if (Array.isArray(raw)) return item.dataset.label + ': ' + figureText(raw[0]) + ' to ' + figureText(raw[1]);
    if (raw === null || typeof raw !== 'object') return item.dataset.label + ': ' + figureText(Number(raw));
    const name = key => (at(scales, key + '/title/text') || '');
    return item.dataset.label + ': ' + figureText(raw.x) + ' ' + name('x') + ', ' + figureText(raw.y) + ' ' + name('y');
  }

  // ---- latency ----

  const sloKey = {ttft: 'ttft', tpot: 'tpot', e2el: 'e2el', itl: 'itl_p99'};

  function sloLine(metric) {
    const limit = at(entries[0].run, 'slo/limits_ms/' + sloKey[metric]);
    return finite(limit) && limit > 0 ? [{at: limit, label: 'SLO ' + figureText(limit) + ' ms'}] : [];
  }

  function curves(metric) {
    return overlaid.map((entry, i) => {
      const curve = at(entry.run, 'latency/' + metric + '/curve');
      return curve && curve.p && curve.p.length ? {label: entry.label, p: curve.p, value: curve.value, color: series(i), more: {borderDash: dashes(i), hidden: !shown.has(entry)}} : null;
    }).filter(Boolean);
  }

  const kinds = {};

  kinds.cdf = figure => {
    const metric = figure.dataset.metric, all = curves(metric), lines = sloLine(metric);
    if (!all.length) return;
    const x = valueAxis('ms', all.flatMap(c => c.value).concat(lines.map(l => l.at)));
    draw(figure, 'line', {datasets: all.map(c => line(c.label, c.value.map((v, i) => ({x: v, y: c.p[i]})), c.color, c.more))},
         {x, y: axis('% of samples', {min: 0, max: 100})}, {marks: {vertical: lines}});
  };

  kinds.percentiles = figure => {
    const metric = figure.dataset.metric, all = curves(metric), lines = sloLine(metric);
    if (!all.length) return;
    const place = p => -Math.log10(1 - p / 100);
    const named = [0, 50, 90, 99, 99.9, 99.99];
    const last = most(all.map(c => most(c.p.filter(p => p < 100))));
    const x = axis('percentile', {min: 0, max: place(last)});
    x.afterBuildTicks = scale => { scale.ticks = named.filter(p => p <= last).map(p => ({value: place(p)})); };
    x.ticks.callback = value => 'P' + Number((100 * (1 - 10 ** -value)).toFixed(2));
    const y = valueAxis('ms', all.flatMap(c => c.value).concat(lines.map(l => l.at)));
    draw(figure, 'line', {datasets: all.map(c => line(c.label, c.p.map((p, i) => ({x: place(p), y: c.value[i]})).filter(q => finite(q.x)), c.color, c.more))},
         {x, y}, {marks: {horizontal: lines}});
  };

  const causeNames = {
    generator: 'generator', queue: 'queue', encoder: 'encoder', own_prefill: 'own prefill', other_prefill: 'prefill of others',
    projections: 'projections', attention: 'attention', rowwise: 'row-wise', sampling: 'logits and sampling', scheduler: 'scheduler', barrier: 'barrier',
    recompute: 'recompute', other: 'other',
  };

  /* The same cause has the same colour everywhere; what others' prompts or a preemption cost is paler. */
  const causeColours = {
    generator: ['c6', 0.4], queue: ['c6', 1], encoder: ['c4', 0.5], own_prefill: ['c5', 1], other_prefill: ['c5', 0.5], projections: ['c1', 1],
    attention: ['c2', 1], rowwise: ['c4', 1], sampling: ['c3', 1], scheduler: ['c7', 1], barrier: ['c8', 1], recompute: ['c2', 0.5],
  };
  const causeColour = cause => { const [name, alpha] = causeColours[cause] || ['c6', 0.2]; return faded(colour[name], alpha); };

  /* {"50": {cause: ms, ...}, "99": ...} as one bar per percentile. */
  kinds.attribution = figure => {
    const bands = at(chosen.run, 'attribution/' + figure.dataset.metric);
    if (!bands) return;
    const names = Object.keys(bands).filter(p => bands[p] && typeof bands[p] === 'object' && Object.values(bands[p]).some(v => finite(v) && v > 0));
    const causes = [...new Set(names.flatMap(p => Object.keys(bands[p])))].filter(c => names.some(p => finite(bands[p][c]) && bands[p][c] > 0));
    if (!names.length || !causes.length) return;
    const datasets = causes.map(cause => ({
      label: causeNames[cause] || cause.replace(/_/g, ' '), data: names.map(p => bands[p][cause] || 0),
      backgroundColor: causeColour(cause), barPercentage: 0.7,
    }));
    draw(figure, 'bar', {labels: names.map(p => /^[\d.]+$/.test(p) ? 'P' + p : p), datasets},
         {x: axis(at(chosen.run, 'attribution/unit') || 'ms', {stacked: true}), y: category('', {stacked: true})},
         {options: {indexAxis: 'y'}, legend: true});
  };

  function category(title, more) {
    const made = axis(title, more);
    made.type = 'category';
    made.title.display = title !== '';
    made.grid = {display: false, borderColor: colour.line};
    delete made.ticks.callback;
    made.ticks.autoSkip = false;
    return made;
  }

  // ---- over time ----

  /* Pictures that stand above each other have their seconds above each other. */
  const ALIGNED = {afterFit: scale => { scale.width = 62; }};

  function timeline(entry) {
    const s = entry.run.series;
    return s && finite(s.dt_s) && Array.isArray(s.running) ? s : null;
  }

  function timeAxis(entry) {
    const s = timeline(entry), start = warmup(entry);
    const end = s ? s.running.length * s.dt_s - start : undefined;
    const made = axis('s', {min: start > 0 ? -start : 0, max: end});
    made.ticks.includeBounds = false;
    return made;
  }

  /* Seconds that follow each other as one. */
  function stretches(seconds) {
    const all = [];
    for (const second of seconds) {
      const last = all[all.length - 1];
      if (last && last.to === second) last.to = second + 1;
      else all.push({from: second, to: second + 1});
    }
    return all;
  }

  function timeMarks(entry) {
    const bands = [], s = timeline(entry), start = warmup(entry);
    const length = at(entry.run, 'window/length_s');
    if (start > 0) bands.push({from: -start, to: 0, label: 'warm-up'});
    if (s && finite(length) && s.running.length * s.dt_s - start > length + s.dt_s)
      bands.push({from: length, to: s.running.length * s.dt_s - start, label: 'after the window'});
    for (const band of stretches((s && s.contaminated) || []))
      bands.push({from: band.from - start, to: Math.min(band.to, s.running.length * s.dt_s) - start, label: 'disturbed', low: true});
    return {bands};
  }

  function overTime(figure, title, columns, yMore) {
    const s = timeline(chosen);
    if (!s) return;
    const start = warmup(chosen);
    const datasets = columns.filter(c => s[c.name]).map(c => line(
      c.label, points(s[c.name].map((_, i) => (i + 0.5) * s.dt_s - start), s[c.name].map(v => v * (c.scale || 1))), c.color, c.more));
    draw(figure, 'line', {datasets}, {x: timeAxis(chosen), y: axis(title, Object.assign({beginAtZero: true}, ALIGNED, yMore))}, {marks: timeMarks(chosen)});
  }

  kinds.output = figure => overTime(figure, 'tok/s', [{name: 'output_tokens', label: 'output', color: colour.c1}]);
  kinds.input = figure => overTime(figure, 'tok/s', [{name: 'input_tokens', label: 'input', color: colour.c2}]);
  kinds.queue = figure => overTime(figure, 'sequences', [
    {name: 'running', label: 'running', color: colour.c1}, {name: 'waiting', label: 'waiting', color: colour.c2}]);
  kinds.kv = figure => overTime(figure, '% of blocks', [{name: 'kv_usage', label: 'KV use', color: colour.c3, scale: 100}], {suggestedMax: 1});

  const stepTimes = steps => steps.t_ns.map((_, i) => (steps.plan_us[i] + steps.forward_us[i] + steps.sample_us[i] + steps.commit_us[i]) * 1e-3);

  kinds.composition = figure => {
    const steps = log(chosen, 'steps');
    if (!steps) return;
    const start = warmup(chosen), x = steps.t_ns.map(t => t * 1e-9 - start);
    const parts = [
      {label: 'decode', rows: steps.rows.map((r, i) => r - steps.rows_prefill[i]), color: colour.c1},
      {label: 'prefill', rows: steps.rows_prefill, color: colour.c2},
      {label: 'encoder', rows: steps.rows_encoder, color: colour.c4},
    ].filter(part => most(part.rows) > 0);
    draw(figure, 'line', {datasets: parts.map((part, i) => line(part.label, points(x, part.rows), part.color, {
      fill: i === 0 ? 'origin' : '-1', backgroundColor: faded(part.color, 0.7), borderWidth: 0, stepped: true}))},
         {x: timeAxis(chosen), y: axis('rows', Object.assign({stacked: true, beginAtZero: true}, ALIGNED))}, {marks: timeMarks(chosen), legend: true});
  };

  /* When steps of how many rows ran: cells of time by rows, the deeper the more of that time. */
  kinds.heat = figure => {
    const steps = log(chosen, 'steps'), s = timeline(chosen);
    if (!steps || !s) return;
    const start = warmup(chosen), length = s.running.length * s.dt_s, COLUMNS = 120;
    const rows = rowsOf(steps), times = stepTimes(steps), bin = r => Math.floor(2 * Math.log2(Math.max(r, 1)));
    const cells = new Map(), total = new Array(COLUMNS).fill(0);
    rows.forEach((r, i) => {
      const column = Math.min(COLUMNS - 1, Math.floor(steps.t_ns[i] * 1e-9 / length * COLUMNS)), key = column + ' ' + bin(r);
      cells.set(key, (cells.get(key) || 0) + times[i]);
      total[column] += times[i];
    });
    const high = 2 ** ((bin(most(rows)) + 1) / 2), width = length / COLUMNS;
    const paint = {id: 'heat', beforeDatasetsDraw({ctx, chartArea: area, scales: {x, y}}) {
      for (const [key, ms] of cells) {
        const [column, row] = key.split(' ').map(Number), left = x.getPixelForValue(column * width - start), top = y.getPixelForValue(2 ** ((row + 1) / 2));
        ctx.fillStyle = faded(colour.c1, 0.12 + 0.83 * ms / total[column]);
        ctx.fillRect(left, top, Math.min(x.getPixelForValue((column + 1) * width - start), area.right) - left + 0.5, y.getPixelForValue(2 ** (row / 2)) - top + 0.5);
      }
    }};
    draw(figure, 'scatter', {datasets: [{label: 'rows', data: []}]}, {x: timeAxis(chosen), y: Object.assign(logAxis('rows of a step', 1, high), ALIGNED)},
         {marks: timeMarks(chosen), plugin: paint});
  };

  kinds.arrivals = figure => {
    const requests = log(chosen, 'requests');
    if (!requests) return;
    const start = warmup(chosen);
    const data = points(requests.a.map(a => a * 1e-9 - start), requests.f.map((f, i) => f >= 0 ? (f - requests.a[i]) * 1e-6 : NaN));
    const span = most(data.map(p => p.x)) - least(data.map(p => p.x)); // offline all are due at once
    if (span > 0.1) draw(figure, 'scatter', {datasets: [dots('request', data, colour.c1)]},
                          {x: timeAxis(chosen), y: Object.assign(valueAxis('ms', data.map(p => p.y)), ALIGNED)}, {marks: timeMarks(chosen)});
  };

  kinds.lives = figure => {
    const requests = log(chosen, 'requests');
    if (!requests) return;
    const start = warmup(chosen), seconds = t => t * 1e-9 - start;
    const ended = requests.a.map((_, i) => i).filter(i => requests.f[i] >= 0 && requests.e[i] >= 0 && requests.s[i] >= 0);
    const stride = Math.ceil(ended.length / 40);
    const sample = ended.filter((_, k) => k % stride === 0).sort((i, j) => requests.a[i] - requests.a[j]);
    if (!sample.length) return;
    const part = (label, from, to, color) => ({
      label, backgroundColor: color, barPercentage: 0.8, categoryPercentage: 1, borderWidth: 0,
      data: sample.map(i => [seconds(requests[from][i]), seconds(requests[to][i])]),
    });
    draw(figure, 'bar', {labels: sample.map(i => i), datasets: [
      part('queue', 'a', 's', faded(colour.c6, 0.55)), part('prefill', 's', 'f', colour.c2), part('decode', 'f', 'e', colour.c1)]},
         {x: timeAxis(chosen), y: category('requests', Object.assign({stacked: true, ticks: {display: false}}, ALIGNED))}, {options: {indexAxis: 'y'}, marks: {bands: timeMarks(chosen).bands.map(band => Object.assign(band, {label: ''}))}, legend: true});
  };

  // ---- steps and the limit ----

  function median(limit) { return finite(limit) ? limit : at(limit || {}, 'median'); }

  /* {bandwidth GB/s, peak GFLOP/s} of a result, or null. */
  function limitsOf(entry) {
    const limits = entry.result.limits;
    if (!limits) return null;
    const dtype = at(entry.result, 'model/weight_dtype') || '';
    const order = dtype === 'f32' ? ['f32_gflops', 'bf16_gflops'] : dtype.startsWith('int8') ? ['int8_gops', 'bf16_gflops', 'f32_gflops'] : ['bf16_gflops', 'f32_gflops'];
    const peakName = order.find(name => finite(median(limits[name])));
    const bandwidth = median(limits.read_gbs), peak = peakName && median(limits[peakName]);
    return finite(bandwidth) && finite(peak) ? {bandwidth, peak, peakName: peakName.replace(/_.*/, '')} : null;
  }

  /* Floors in ms: those of the log, else from bytes, operations and the limits. */
  function floorsOf(entry, steps) {
    if (steps.floor_us && steps.floor_us.some(finite)) return steps.floor_us.map(us => finite(us) ? us * 1e-3 : NaN);
    const limits = limitsOf(entry);
    return limits ? steps.bytes.map((b, i) => Math.max(b / limits.bandwidth, steps.flops[i] / limits.peak) * 1e-6) : null;
  }

  const rowsOf = steps => steps.rows.map((r, i) => r + steps.rows_encoder[i]);

  function classesOf(steps) {
    return steps.rows.map((r, i) => steps.rows_encoder[i] > 0 ? 2 : steps.rows_prefill[i] > 0 ? 1 : 0);
  }

  const classNames = ['decode only', 'with prefill', 'with encoder'];

  function byClass(steps, xs, ys) {
    const kind = classesOf(steps), colours = [colour.c1, colour.c2, colour.c4];
    return classNames.map((name, k) => dots(name, points(xs, ys).length ? xs.map((x, i) => ({x, y: ys[i], k: kind[i]})).filter(p => p.k === k && finite(p.x) && finite(p.y)) : [], colours[k]))
      .filter(set => set.data.length);
  }

  function stepScatter(figure, title, xs, steps) {
    if (!(most(xs) > 0)) return;
    const floors = floorsOf(chosen, steps), times = stepTimes(steps);
    const datasets = byClass(steps, xs, times);
    if (floors) datasets.push(dots('floor', points(xs, floors), colour.c5, {pointRadius: 1.5, pointStyle: 'rect'}));
    draw(figure, 'scatter', {datasets}, {x: valueAxis(title, xs), y: valueAxis('ms', times.concat(floors || []))}, {legend: true});
  }

  kinds['step-rows'] = figure => {
    const steps = log(chosen, 'steps');
    if (steps) stepScatter(figure, 'rows (tokens computed in the step)', rowsOf(steps), steps);
  };

  kinds['step-kv'] = figure => {
    const steps = log(chosen, 'steps');
    if (steps) stepScatter(figure, 'MB of keys and values', steps.kv_bytes.map(b => b * 1e-6), steps);
  };

  kinds.roofline = figure => {
    const steps = log(chosen, 'steps');
    if (!steps) return;
    const times = stepTimes(steps), limits = limitsOf(chosen);
    const xs = steps.flops.map((f, i) => f / steps.bytes[i]), ys = steps.flops.map((f, i) => f / times[i] * 1e-6);
    const seenX = xs.filter(v => finite(v) && v > 0), seenY = ys.filter(v => finite(v) && v > 0);
    if (!seenX.length) return;
    const datasets = byClass(steps, xs, ys);
    let minX = least(seenX) / 1.5, maxX = most(seenX) * 1.5, minY = least(seenY) / 1.5, maxY = most(seenY) * 2;
    if (limits) {
      const ridge = limits.peak / limits.bandwidth;
      minX = Math.min(minX, ridge / 2);
      maxX = Math.max(maxX, ridge * 2);
      maxY = Math.max(maxY, limits.peak * 1.5);
      datasets.push(line('read ' + figureText(limits.bandwidth) + ' GB/s', [{x: minX, y: minX * limits.bandwidth}, {x: ridge, y: limits.peak}], colour.c5));
      datasets.push(line(limits.peakName + ' peak ' + figureText(limits.peak) + ' GFLOP/s', [{x: ridge, y: limits.peak}, {x: maxX, y: limits.peak}], colour.c3));
    }
    draw(figure, 'scatter', {datasets: datasets.map(d => Object.assign(d, {type: d.type || 'line'}))},
         {x: logAxis('FLOP per byte that must move', minX, maxX), y: logAxis('GFLOP/s', minY, maxY)}, {legend: true});
  };

  const stageColours = {projections: 'c1', attention: 'c2', logits: 'c3', rowwise: 'c4', encoder: 'c6', sampling: 'c5', scheduler: 'c7', barrier: 'c8'};
  const stageNames = {projections: 'projections', attention: 'attention', logits: 'logits', rowwise: 'row-wise', encoder: 'encoder', sampling: 'sampling', scheduler: 'scheduler', barrier: 'barriers'};

  kinds.stages = figure => {
    const rows = overlaid.filter(e => at(e.run, 'steps/stage_s') && at(e.run, 'steps/time_s'));
    if (!rows.length) return;
    const busy = e => { const t = e.run.steps.time_s; return t.encoder + t.prefill + t.decode; };
    const share = (e, name) => 100 * (e.run.steps.stage_s[name] || 0) / busy(e);
    const names = Object.keys(stageNames).filter(name => rows.some(e => share(e, name) > 0.05));
    const datasets = names.map(name => ({label: stageNames[name], data: rows.map(e => share(e, name)), backgroundColor: colour[stageColours[name]], barPercentage: 0.65, maxBarThickness: 34}));
    const rest = rows.map(e => Math.max(0, 100 - names.reduce((sum, name) => sum + share(e, name), 0)));
    datasets.push({label: 'other', data: rest, backgroundColor: colour.line, barPercentage: 0.65, maxBarThickness: 34});
    draw(figure, 'bar', {labels: rows.map(e => e.label), datasets},
         {x: axis('% of the time of all steps', {stacked: true, min: 0, max: 100}), y: category('', {stacked: true})}, {options: {indexAxis: 'y'}, legend: true, bars: rows.length});
  };

  // ---- workload ----

  kinds.histogram = figure => {
    const requests = log(chosen, 'requests'), name = figure.dataset.column;
    if (!requests) return;
    const gaps = requests.a.slice(1).map((a, i) => (a - requests.a[i]) * 1e-9);
    const thin = at(chosen.run, 'log/requests/count') > at(chosen.run, 'log/requests/shown');
    const values = (name === 'gap' ? (thin ? [] : gaps) : requests[name] || []).filter(finite);
    const low = least(values), high = most(values);
    if (!values.length || high <= 0) return;
    const whole = name !== 'gap', bins = Math.max(1, Math.min(30, whole ? high - low + 1 : 30));
    const width = whole ? Math.max(1, Math.ceil((high - low + 1) / bins)) : (high - low || 1) / bins;
    const counts = new Array(Math.floor((high - low) / width) + 1).fill(0);
    for (const v of values) counts[Math.floor((v - low) / width)]++;
    const data = counts.map((y, i) => ({x: low + (i + 0.5) * width - (whole ? 0.5 : 0), y}));
    const pad = data.length < 3 ? Math.max(width, high * 0.2) : width / 2;
    draw(figure, 'bar', {datasets: [{label: 'requests', data, backgroundColor: colour.c1, barPercentage: 1, categoryPercentage: 0.92, maxBarThickness: 40}]},
         {x: axis(whole ? 'tokens' : 's', {min: data[0].x - pad, max: data[data.length - 1].x + pad, offset: false, grid: Object.assign(axis('').grid, {offset: false}), ticks: Object.assign(axis('').ticks, {includeBounds: false})}), y: axis('requests', {beginAtZero: true, ticks: Object.assign(axis('').ticks, {precision: 0})})});
  };

  // ---- sweep: a curve for each combination of the other axes, its points means over the repetitions ----

  function mean(result, path) {
    const values = result.runs.map(run => at(run, path)).filter(finite);
    return values.length === result.runs.length ? values.reduce((a, b) => a + b, 0) / values.length : NaN;
  }

  const hasSlo = result => Object.values(at(result, 'runs/0/slo/limits_ms') || {}).some(finite);

  /* [{label, points}] in the order of the results, which is that of the axis. */
  function sweptCurves(x, y) {
    const curves = new Map();
    for (const result of results) {
      const point = {x: x(result), y: y(result)};
      if (!curves.has(result.curve_number)) curves.set(result.curve_number, {label: result.curve || 'all', points: []});
      if (finite(point.x) && finite(point.y)) curves.get(result.curve_number).points.push(point);
    }
    return [...curves.values()];
  }

  function sweptLines(curves, more) {
    return curves.map((curve, i) => line(curve.label, curve.points, series(i), Object.assign({pointRadius: 3, borderDash: dashes(i)}, more)))
      .filter(set => set.data.length);
  }

  function sweepChart(figure, title, datasets, lines) {
    if (!datasets.length) return;
    const ys = datasets.flatMap(d => d.data.map(p => p.y)), xs = datasets.flatMap(d => d.data.map(p => p.x));
    const yAxis = least(ys) > 0 ? valueAxis(title, ys.concat((lines || []).map(l => l.at))) : axis(title, {beginAtZero: true, grace: '4%'}); // 0 has no place on a logarithmic one
    draw(figure, 'line', {datasets}, {x: sweepAxis(figure.closest('section').dataset.axis, xs), y: yAxis},
         {marks: {horizontal: lines}});
  }

  /* 1, 2, 4, ... 64 stand evenly on a logarithmic axis. */
  function sweepAxis(title, xs) {
    const low = least(xs), high = most(xs);
    if (!(low > 0 && high / low >= 8)) return axis(title, {beginAtZero: low >= 0});
    const made = logAxis(title, low / 1.15, high * 1.15), values = [...new Set(xs)].sort((a, b) => a - b);
    if (values.length <= 12) made.afterBuildTicks = scale => { scale.ticks = values.map(value => ({value})); };
    return made;
  }

  const along = result => finite(result.x) ? result.x : NaN;

  kinds['sweep-throughput'] = figure => sweepChart(figure, 'tok/s', sweptLines(sweptCurves(along, r => mean(r, 'throughput/output_tokens/value'))));
  kinds['sweep-latency'] = figure => sweepChart(figure, 'ms', sweptLines(sweptCurves(along, r => mean(r, 'latency/' + figure.dataset.metric + '/p/50'))), sloLine(figure.dataset.metric));
  kinds['sweep-goodput'] = figure => {
    if (results.every(hasSlo)) sweepChart(figure, 'requests/s', sweptLines(sweptCurves(along, r => mean(r, 'throughput/goodput/value'))));
  };
  kinds['sweep-pareto'] = figure => {
    const datasets = sweptLines(sweptCurves(r => mean(r, 'throughput/output_tokens_per_user/value'), r => mean(r, 'throughput/output_tokens/value')));
    if (datasets.length) draw(figure, 'line', {datasets}, {x: axis('tok/s for one user (1 / mean TPOT)', {beginAtZero: true}), y: axis('output tok/s, all users', {beginAtZero: true})});
  };

  // ---- the page ----

  function drawAll() {
    charts.forEach(chart => chart.destroy());
    charts = [];
    readColours();
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    Chart.defaults.font.size = 11.5;
    for (const figure of document.querySelectorAll('figure[data-chart]')) {
      figure.hidden = true;
      kinds[figure.dataset.chart](figure);
    }
    const note = document.querySelector('.overlaid');
    if (note && entries.length > MOST_SHOWN) {
      note.textContent = shown.size + ' of ' + entries.length + ' runs are drawn; a click on a name in a legend draws or hides its curve.';
      note.hidden = false;
    }
    const bars = document.querySelector('.attribution');
    if (bars) bars.hidden = !document.querySelector('figure[data-chart=attribution]:not([hidden])');
    for (const group of document.querySelectorAll('.charts'))
      group.hidden = !group.querySelector('figure:not([hidden])');
  }

  /* Pictures of a single run: which one. */
  function offerChoice() {
    const place = document.querySelector('#time .chosen');
    if (entries.length === 1) return;
    const select = document.createElement('select');
    entries.forEach((entry, i) => select.add(new Option(entry.label, i)));
    select.addEventListener('change', () => { chosen = entries[Number(select.value)]; drawAll(); });
    place.append('Pictures over time, of steps and of the workload are of', select);
  }

  document.documentElement.classList.add('scripted');
  offerChoice();
  drawAll();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);
  document.documentElement.dataset.drawn = charts.length;
})();

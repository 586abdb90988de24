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
  let chosen = entries[0], charts = [];

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

  const style = getComputedStyle(document.documentElement); // stays that of light or dark
  const colour = name => style.getPropertyValue('--' + name).trim();
  const series = i => colour('c' + (i % 8 + 1));
  const dashes = i => [[], [7, 3], [2, 2]][Math.floor(i / 8) % 3];
  const faded = (hex, alpha) => hex + Math.round(alpha * 255).toString(16).padStart(2, '0');

  // ---- axes ----

  function axis(title, more) {
    return {
      type: 'linear', title: {display: title !== '', text: title, color: colour('soft'), padding: 2},
      grid: {color: colour('grid'), borderColor: colour('line'), tickLength: 4},
      ticks: {color: colour('soft'), maxRotation: 0, autoSkipPadding: 12, callback: numberText}, ...more,
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

  /* 1, 2, 4, ... 64 stand evenly on a logarithmic axis. */
  function sweepAxis(xs) {
    const low = least(xs), high = most(xs), values = [...new Set(xs)].sort((a, b) => a - b);
    if (!(low > 0 && high / low >= 8)) return axis(sweptAxis, {beginAtZero: low >= 0});
    const made = logAxis(sweptAxis, low / 1.15, high * 1.15);
    if (values.length <= 12) made.afterBuildTicks = scale => { scale.ticks = values.map(value => ({value})); };
    return made;
  }

  /* Stretches of time, shaded behind the data: grey, or red for what disturbed the machine. */
  const shading = {
    id: 'shading',
    beforeDatasetsDraw({ctx, chartArea: area, scales: {x}}, _, {bands = []}) {
      for (const {from, to, color} of bands) {
        const left = Math.max(x.getPixelForValue(from), area.left);
        ctx.fillStyle = colour(color);
        ctx.fillRect(left, area.top, Math.max(0, Math.min(x.getPixelForValue(to), area.right) - left), area.height);
      }
    },
  };

  // ---- kinds: each makes {datasets, x, y, ...} from data, or nothing ----

  const line = (label, data, color, more) => ({
    label, data, borderColor: color, backgroundColor: color, borderWidth: 1.6, pointRadius: 0, ...more});
  const dots = (label, data, color, more) => ({
    label, data, type: 'scatter', showLine: false, pointRadius: 2, pointHoverRadius: 4, borderWidth: 0,
    borderColor: color, backgroundColor: faded(color, 0.55), ...more});
  const bars = (label, data, color, more) => ({
    label, data, backgroundColor: color, barPercentage: 0.7, maxBarThickness: 34, ...more});

  /* The limit of a latency as a line across the chart, if there is one. */
  function sloLine(metric, from, to) {
    const value = at(entries[0].run, 'slo/limits_ms/' + (metric === 'itl' ? 'itl_p99' : metric));
    return finite(value) && value > 0 ? [line('SLO ' + numberText(value) + ' ms', points([from, to], [value, value]),
      colour('mark'), {borderDash: [4, 3], borderWidth: 1.2})] : [];
  }

  const place = p => -Math.log10(1 - p / 100); // P0, P90, P99, ... at 0, 1, 2, ...

  function distribution({metric}) {
    const curves = overlaid.map((entry, i) => ({entry, i, ...at(entry.run, 'latency/' + metric + '/curve')}))
      .filter(curve => curve.p && curve.p.length);
    const last = most(curves.flatMap(curve => curve.p.filter(p => p < 100)));
    const datasets = curves.map(({entry, i, p, value}) =>
      line(entry.label, points(p.map(place), value), series(i), {borderDash: dashes(i), hidden: !shown.has(entry)}));
    if (datasets.length) datasets.push(...sloLine(metric, 0, place(last)));
    const x = axis('percentile', {min: 0, max: place(last)});
    const ticks = [0, 50, 90, 99, 99.9, 99.99].filter(p => p <= last).map(p => ({value: place(p)}));
    x.afterBuildTicks = scale => { scale.ticks = ticks; };
    x.ticks.callback = value => 'P' + Number((100 * (1 - 10 ** -value)).toFixed(2));
    return {type: 'line', datasets, x, y: valueAxis('ms', datasets.flatMap(set => set.data.map(p => p.y)))};
  }

  /* The same cause has the same name and colour everywhere; what others' prompts or a preemption cost is paler. */
  const causes = {
    generator: ['before submission', 'c6', 0.4], queue: ['waiting in the engine', 'c6', 1],
    encoder: ['encoder', 'c4', 0.5],
    own_prefill: ['own prefill', 'c5', 1], other_prefill: ['prefill of others', 'c5', 0.5],
    projections: ['projections', 'c1', 1], attention: ['attention', 'c2', 1], logits: ['logits', 'c3', 0.6],
    rowwise: ['row-wise', 'c4', 1], sampling: ['logits and sampling', 'c3', 1], scheduler: ['scheduler', 'c7', 1],
    barrier: ['barriers', 'c8', 1], network: ['other ranks', 'c7', 0.5], recompute: ['recompute', 'c2', 0.5], other: ['other', 'c6', 0.2],
  };
  const causeBars = (names, data) => names.map(name => {
    const [label, color, alpha] = causes[name] || [name.replace(/_/g, ' '), 'c6', 0.2];
    return bars(label, data(name), faded(colour(color), alpha));
  });

  /* A bar for each label. */
  function stackedBars(labels, datasets, x, more) {
    const y = axis('', {type: 'category', stacked: true, grid: {display: false, borderColor: colour('line')}});
    delete y.ticks.callback;
    y.ticks.autoSkip = false;
    return {type: 'bar', flat: true, legend: true, labels, datasets: labels.length ? datasets : [], x, y, ...more};
  }

  /* {"50": {cause: ms, ...}, "99": ...} as one bar per percentile. */
  function attribution({metric}) {
    const bands = at(chosen.run, 'attribution/' + metric) || {}, percentiles = Object.keys(bands);
    const names = Object.keys(causes).filter(cause => percentiles.some(p => bands[p][cause] > 0));
    const sets = causeBars(names, name => percentiles.map(p => bands[p][name] || 0));
    return stackedBars(percentiles.map(p => 'P' + p), sets, axis('ms', {stacked: true}));
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
    return stackedBars(rows.map(e => e.label), sets, x, {height: rows.length * 26 + 60});
  }

  // ---- over time, of the chosen run ----

  const ALIGNED = {afterFit: scale => { scale.width = 54; }}; // seconds stand above each other from chart to chart
  function timeline() {
    const s = chosen.run.series;
    return s && finite(s.dt_s) && Array.isArray(s.output_tokens) ? s : null;
  }
  const timeEnd = s => s ? s.output_tokens.length * s.dt_s - warmup() : undefined;

  function timeAxis() {
    const made = axis('s', {min: warmup() > 0 ? -warmup() : 0, max: timeEnd(timeline())});
    made.ticks.includeBounds = false;
    return made;
  }

  function timeBands() {
    const s = timeline(), end = timeEnd(s), length = at(chosen.run, 'window/length_s');
    const bands = [{from: -warmup(), to: 0, color: 'shade'}];
    if (s && finite(length) && end > length + s.dt_s) bands.push({from: length, to: end, color: 'shade'});
    for (const second of (s && s.contaminated) || [])
      bands.push({from: second - warmup(), to: Math.min(second - warmup() + 1, end), color: 'disturbed'});
    return bands;
  }

  function overTime({columns, scale = 1, y}) {
    const s = timeline(), known = columns.filter(([name]) => s && s[name]);
    const middles = known.length && s[known[0][0]].map((_, i) => (i + 0.5) * s.dt_s - warmup());
    return {type: 'line', bands: timeBands(), x: timeAxis(), y: axis('', {beginAtZero: true, ...ALIGNED, ...y}),
            datasets: known.map(([name, label, color]) =>
              line(label, points(middles, s[name].map(v => v * scale)), colour(color)))};
  }

  const rowsOf = steps => steps.rows.map((r, i) => r + steps.rows_encoder[i]);
  const stepTimes = steps => steps.t_ns.map((_, i) =>
    (steps.plan_us[i] + steps.forward_us[i] + steps.sample_us[i] + steps.commit_us[i]) * 1e-3);

  function composition() {
    const steps = log('steps');
    if (!steps) return null;
    const parts = [['decode', steps.rows.map((r, i) => r - steps.rows_prefill[i]), colour('c1')],
                   ['prefill', steps.rows_prefill, colour('c2')], ['encoder', steps.rows_encoder, colour('c4')]];
    return {type: 'line', legend: true, bands: timeBands(), x: timeAxis(),
            y: axis('', {stacked: true, beginAtZero: true, ...ALIGNED}),
            datasets: parts.filter(([, rows]) => most(rows) > 0).map(([label, rows, color], i) =>
              line(label, points(steps.t_ns.map(seconds), rows), color, {
                fill: i === 0 ? 'origin' : '-1', backgroundColor: faded(color, 0.7), borderWidth: 0, stepped: true}))};
  }

  function arrivals() {
    const requests = log('requests');
    if (!requests) return null;
    const data = points(requests.a.map(seconds), requests.f.map((f, i) => f >= 0 ? (f - requests.a[i]) * 1e-6 : NaN));
    if (!(most(data.map(p => p.x)) - least(data.map(p => p.x)) > 0.1)) return null; // offline all are due at once
    return {type: 'scatter', bands: timeBands(), x: timeAxis(), y: {...valueAxis('', data.map(p => p.y)), ...ALIGNED},
            datasets: [dots('request', data, colour('c1'))]};
  }

  // ---- steps and the roofline ----

  /* {bandwidth GB/s, peak GFLOP/s} of the chosen run's result, or null. */
  function roofOf() {
    const best = name => at(chosen.result, 'limits/' + name + '/max'), bandwidth = at(chosen.run, 'speed_of_light/read_gbs') || best('read_gbs');
    const dtype = at(chosen.result, 'model/weight_dtype') || '', others = ['bf16_gflops', 'f32_gflops'];
    const own = dtype === 'f32' ? ['f32_gflops'] : dtype.startsWith('int8') ? ['int8_gops'] : [];
    const peak = own.concat(others).find(name => finite(best(name)));
    return finite(bandwidth) && peak ? {bandwidth, peak: best(peak), name: peak.replace(/_.*/, '')} : null;
  }

  function byClass(steps, xs, ys) {
    const kind = i => steps.rows_encoder[i] > 0 ? 2 : steps.rows_prefill[i] > 0 ? 1 : 0;
    return [['decode only', 'c1'], ['with prefill', 'c2'], ['with encoder', 'c4']].map(([name, color], k) =>
      dots(name, points(xs.map((x, i) => kind(i) === k ? x : NaN), ys), colour(color))).filter(set => set.data.length);
  }

  function stepTime({x: title, of}) {
    const steps = log('steps'), xs = steps && of(steps);
    if (!steps || !(most(xs) > 0)) return null;
    const floors = steps.floor_us.map(us => finite(us) ? us * 1e-3 : NaN), floor = points(xs, floors);
    const times = stepTimes(steps), datasets = byClass(steps, xs, times);
    if (floor.length) datasets.push(dots('floor', floor, colour('c5'), {pointRadius: 1.5, pointStyle: 'rect'}));
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
      datasets.push(line('read ' + numberText(roof.bandwidth) + ' GB/s', slope, colour('c5'), {type: 'line'}),
                    line(roof.name + ' peak ' + numberText(roof.peak) + ' GFLOP/s', flat, colour('c3'), {type: 'line'}));
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
    if (!(high > low)) return null; // one value: the configuration says it
    const width = whole ? Math.max(1, Math.ceil((high - low + 1) / 30)) : (high - low || 1) / 30;
    const counts = new Array(Math.floor((high - low) / width) + 1).fill(0);
    for (const v of values) counts[Math.floor((v - low) / width)]++;
    const data = counts.map((y, i) => ({x: low + (i + 0.5) * width - (whole ? 0.5 : 0), y}));
    const pad = width / 2, y = axis('requests', {beginAtZero: true});
    const x = axis(whole ? 'tokens' : 's', {min: data[0].x - pad, max: data[data.length - 1].x + pad, offset: false});
    x.grid.offset = false, x.ticks.includeBounds = false, y.ticks.precision = 0;
    const set = bars('requests', data, colour('c1'), {barPercentage: 1, categoryPercentage: 0.92, maxBarThickness: 40});
    return {type: 'bar', x, y, datasets: [set]};
  }

  /* Over the repetitions; NaN where one has none. */
  function mean(result, path) {
    const values = result.runs.map(run => at(run, path));
    return values.every(finite) ? values.reduce((a, b) => a + b, 0) / values.length : NaN;
  }

  /* A curve for each combination of the other axes; results are in the order of the axis. */
  function swept({x, xTitle, y, unit, metric, needsSlo}) {
    const curves = new Map();
    const hasSlo = r => Object.values(at(r, 'runs/0/slo/limits_ms') || {}).some(finite);
    if (needsSlo && !results.every(hasSlo)) return null;
    for (const r of results) {
      if (!curves.has(r.curve)) curves.set(r.curve, {label: r.curve || 'all', xs: [], ys: []});
      curves.get(r.curve).xs.push(x ? mean(r, x) : r.x);
      curves.get(r.curve).ys.push(mean(r, y));
    }
    const datasets = [...curves.values()].map(({label, xs, ys}, i) =>
      line(label, points(xs, ys), series(i), {pointRadius: 3, borderDash: dashes(i)})).filter(d => d.data.length);
    const all = datasets.flatMap(d => d.data), xs = all.map(p => p.x), ys = all.map(p => p.y);
    if (x) return {type: 'line', datasets, x: axis(xTitle, {beginAtZero: true}), y: axis(unit, {beginAtZero: true})};
    const limit = metric && all.length ? sloLine(metric, least(xs), most(xs)) : [], limits = limit.flatMap(d => d.data);
    return {type: 'line', datasets: datasets.concat(limit), x: sweepAxis(xs),
            y: valueAxis(unit, ys.concat(limits.map(p => p.y)), !(least(ys) > 0))};
  }

  // ---- the list ----

  const latencies = {
    ttft: 'Time to first token (TTFT), from the due time', itl: 'Inter-token latency (ITL), pooled',
    tpot: 'Time per output token (TPOT), mean of a request', e2el: 'End to end (E2E)'};
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
    {id: 'output', title: 'Output tokens per second', columns: [['output_tokens', 'output', 'c1']]},
    {id: 'input', title: 'Input tokens computed per second', columns: [['input_tokens', 'input', 'c2']]},
    {id: 'queue', title: 'Sequences running and waiting',
     columns: [['running', 'running', 'c1'], ['waiting', 'waiting', 'c2']]},
    {id: 'kv', title: 'KV cache in use, % of its blocks', scale: 100, columns: [['kv_usage', 'KV use', 'c3']],
     y: {suggestedMax: 1}}];
  const lengths = {num_prompt_tokens: 'Prompt length', num_output_tokens: 'Output length',
                   num_encoder_tokens: 'Encoder input length', gap: 'Time between arrivals'};
  const figures = [
    ...sweeps.map(figure => ({...figure, id: 'sweep-' + figure.id, in: 'sweep', make: swept})),
    ...Object.entries(latencies).map(([metric, title]) =>
      ({id: metric, title, in: 'latency', make: distribution, metric})),
    {id: 'ttft-causes', title: 'What TTFT consists of', in: 'latency', make: attribution, metric: 'ttft'},
    {id: 'itl-causes', title: 'What ITL consists of', in: 'latency', make: attribution, metric: 'itl'},
    ...timelines.map(figure => ({...figure, in: 'time', make: overTime})),
    {id: 'composition', title: 'Rows of each step\u2019s batch', in: 'time', make: composition},
    {id: 'arrivals', title: 'TTFT of each request by its due time, ms', in: 'time', make: arrivals},
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
    if (raw === null || typeof raw !== 'object') return dataset.label + ': ' + numberText(Number(raw));
    const withUnit = key => numberText(raw[key]) + ' ' + (at(scales, key + '/title/text') || '');
    return dataset.label + ': ' + withUnit('x') + ', ' + withUnit('y');
  }

  /* A click on a name draws or hides its curve. */
  function addLegend(list, chart) {
    const say = (item, i) => item.setAttribute('aria-pressed', chart.isDatasetVisible(i));
    chart.data.datasets.forEach(({label, backgroundColor}, i) => {
      const item = document.createElement('button');
      item.textContent = label;
      item.style.setProperty('--colour', backgroundColor);
      item.addEventListener('click', () => {
        chart.setDatasetVisibility(i, !chart.isDatasetVisible(i));
        chart.update();
        say(item, i);
      });
      say(item, i);
      list.append(item);
    });
  }

  function draw(figure, {type, x, y, bands, labels, datasets, flat, legend, height}) {
    if (height > figure.lastChild.clientHeight) figure.lastChild.style.height = height + 'px';
    charts.push(new Chart(figure.querySelector('canvas'), {
      type, data: {labels, datasets}, plugins: [shading],
      options: {
        animation: false, responsive: true, maintainAspectRatio: false, normalized: false, scales: {x, y},
        indexAxis: flat ? 'y' : 'x', interaction: {mode: 'nearest', intersect: false, axis: 'xy'},
        layout: {padding: {top: 4, right: 10}},
        plugins: {shading: {bands}, legend: {display: false},
                  tooltip: {callbacks: {label: item => tooltip(item, {x, y})}}},
      },
    }));
    if (legend || datasets.length > 1) addLegend(figure.children[1], charts[charts.length - 1]);
  }

  function addFigure(figure) {
    const made = document.createElement('figure'), drawn = figure.make(figure);
    if (!drawn || !drawn.datasets.some(set => set.data.length)) return;
    made.id = 'figure-' + figure.id;
    made.className = /high|span/.test(figure.size) ? 'span' : '';
    made.innerHTML = '<figcaption></figcaption><p class="legend"></p><div><canvas></canvas></div>';
    made.firstChild.textContent = figure.title;
    made.lastChild.className = figure.size || (/time|workload/.test(figure.in) ? 'low' : '');
    document.querySelector(`[data-figures=${figure.in}]`).append(made);
    draw(made, drawn);
  }

  function drawAll() {
    charts.forEach(chart => chart.destroy());
    charts = [];
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

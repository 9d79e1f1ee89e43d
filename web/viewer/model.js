// What the panels show, computed from the data of cad_engine/report/viewer_data.py and what is set: no drawing, no page.

export const RULES = ["row", "row_min1", "layer", "global"];

/** floor(ratio * total) as a person counts it; see share_count in cad_engine/reduction.py. */
export function shareCount(ratio, total) {
    return Math.floor(Number((ratio * total).toFixed(9)));
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

function spread([first, ...counts], bins) {
    const all = new Array(bins).fill(0);
    counts.forEach((value, number) => (all[first + number] = value));
    return all;
}

/** The data with what follows from it: labels, sizes, whole histograms, totals. */
export function prepare(data) {
    const amplify = data.info.objective === "amplify";
    const side = amplify ? 1 : 0;
    const bins = data.edges.length - 1;
    const layers = data.layers.map((layer, index) => {
        const histogram = layer.histogram.map((each) => spread(each, bins));
        return {
            ...layer,
            index,
            label: layer.group ? `${layer.group} \u00b7 ${layer.part}` : layer.part,
            weights: layer.shape[0] * layer.shape[1],
            histogram,
            right: sum(histogram[side]) + layer.below[side],
        };
    });
    const mass = [0, 1].map((which) => sum(layers.map((layer) => layer.mass[which])));
    const summable = data.score !== "attribution per harm";
    const scored = sum(layers.map((layer) => sum(layer.histogram[side].map((each, bin) => each * data.typical[bin]))));
    return {
        data,
        layers,
        side,
        amplify,
        solved: data.score === "effect",
        summable,
        mass,
        scored: data.score === "attribution" ? Math.abs(mass[side]) : scored,
        weights: sum(layers.map((layer) => layer.weights)),
    };
}

/** [positive, negative] mass of a layer, over the timesteps first..last of `brush`, or all. */
function massOf(layer, brush) {
    if (!brush) return layer.mass;
    return layer.timestep_mass.map((values) => sum(values.slice(brush[0], brush[1] + 1)));
}

/** Of each layer [positive, negative], the second one below zero: sums, shares of all layers' mass of that sign, or sums per weight. */
export function layerValues(model, measure, brush) {
    const masses = model.layers.map((layer) => massOf(layer, brush));
    if (measure === "share") {
        const totals = [0, 1].map((which) => Math.abs(sum(masses.map((mass) => mass[which]))));
        return masses.map((mass) => mass.map((value, which) => (totals[which] ? value / totals[which] : 0)));
    }
    if (measure === "density") return masses.map((mass, number) => mass.map((value) => value / model.layers[number].weights));
    return masses;
}

/** The largest amount among what a sign shows, which is where the scale ends. */
export function largest(values, sign) {
    let most = 0;
    for (const [positive, negative] of values) {
        if (sign !== "negative") most = Math.max(most, positive);
        if (sign !== "positive") most = Math.max(most, -negative);
    }
    return most;
}

/** From the strongest bin down until `wanted` scores are reached: the magnitude there, and how much of each bin lies above it. */
function fromTheTop(totals, below, edges, wanted) {
    const parts = totals.map(() => 0);
    let missing = wanted;
    for (let bin = totals.length - 1; bin >= 0; bin--) {
        if (missing <= 0) break;
        if (totals[bin] > missing) {
            parts[bin] = missing / totals[bin];
            const low = Math.max(edges[bin], edges[bin + 1] / 4);
            return { threshold: edges[bin + 1] * (low / edges[bin + 1]) ** parts[bin], parts, deeper: 0 };
        }
        parts[bin] = 1;
        missing -= totals[bin];
        if (missing <= 0) return { threshold: edges[bin], parts, deeper: 0 };
    }
    return { threshold: edges[0], parts, deeper: below > 0 ? Math.min(1, Math.max(0, missing) / below) : 0 };
}

function byRank(curve, k) {
    if (!curve?.length || k <= 0) return 0;
    let before = [0, 0];
    for (const point of curve) {
        if (k <= point[0]) return before[1] + ((point[1] - before[1]) * (k - before[0])) / (point[0] - before[0]);
        before = point;
    }
    return before[1];
}

const NOTHING = { count: 0, byLayer: null, share: null, thresholds: null, all: false, problem: null, hint: null };

/**
 * What CAD Erase or CAD Amplify would take of the chosen layers. Counts are exact, those of single layers by the rule global to within a bin.
 *
 * count; byLayer; share of what all scores of the sign add up to, null where they do not add up; thresholds: null, or the least and the
 * most score from which layers are taken; all: whether it is all that rounds found; problem, hint: why nothing is taken, in words.
 */
export function taken(model, chosen, ratio, rule) {
    const { data, layers, side } = model;
    const part = layers.filter((_, number) => chosen[number]);
    const shared = (amount) => (model.summable && model.scored > 0 ? amount / model.scored : null);
    const scores = (layer, parts) => sum(layer.histogram[side].map((value, bin) => value * parts[bin] * data.typical[bin]));
    const result = (byLayer, amount, thresholds, more = {}) => {
        const all = new Map(part.map((layer, number) => [layer.index, byLayer[number]]));
        const each = layers.map((layer) => all.get(layer.index) ?? 0);
        return { ...NOTHING, count: sum(byLayer), byLayer: each, share: shared(amount), thresholds, ...more };
    };
    if (!(ratio > 0)) {
        if (!model.solved) return { ...NOTHING, hint: "Set a ratio above 0 to see what it takes." };
        const everything = data.edges.slice(1).map(() => 1);
        return result(part.map((layer) => layer.right), sum(part.map((layer) => scores(layer, everything))), null, { all: true });
    }
    if (ratio > data.keep_ratio) {
        return { ...NOTHING, problem: `This attribution keeps its scores up to the ratio ${data.keep_ratio}: take a smaller one, or attribute again with a larger largest_ratio.` };
    }
    if (rule === "row" || rule === "row_min1") {
        const counts = [];
        let amount = 0;
        for (const layer of part) {
            const k = Math.max(rule === "row_min1" ? 1 : 0, shareCount(ratio, layer.shape[1]));
            counts.push(sum(layer.rows_by_count.map(([right, rows]) => rows * Math.min(k, right))));
            amount += byRank(layer.sums_by_rank, k);
        }
        return result(counts, amount, null);
    }
    if (rule === "layer") {
        const counts = [];
        const thresholds = [];
        let amount = 0;
        for (const layer of part) {
            counts.push(Math.min(shareCount(ratio, layer.weights), layer.right));
            const found = fromTheTop(layer.histogram[side], layer.below[side], data.edges, counts.at(-1));
            if (counts.at(-1)) thresholds.push(found.threshold);
            amount += scores(layer, found.parts);
        }
        return result(counts, amount, thresholds.length ? [Math.min(...thresholds), Math.max(...thresholds)] : null);
    }
    const totals = data.edges.slice(1).map((_, bin) => sum(part.map((layer) => layer.histogram[side][bin])));
    const below = sum(part.map((layer) => layer.below[side]));
    const wanted = Math.min(shareCount(ratio, sum(part.map((layer) => layer.weights))), sum(totals) + below);
    const found = fromTheTop(totals, below, data.edges, wanted);
    const short = part.find((layer) => layer.complete_above > 0 && wanted && (found.deeper || found.threshold < layer.complete_above * 0.84));
    if (short) {
        return { ...NOTHING, problem: `${short.label} does not keep enough scores for this ratio in these layers: take a smaller ratio.` };
    }
    const counts = part.map((layer) =>
        sum(layer.histogram[side].map((value, bin) => value * found.parts[bin])) + layer.below[side] * found.deeper,
    );
    const amount = sum(part.map((layer) => scores(layer, found.parts)));
    return result(counts, amount, wanted ? [found.threshold, found.threshold] : null, { count: wanted });
}

/** The ratio at which rule global or layer would have its threshold at `magnitude`, over the chosen layers. */
export function ratioAt(model, chosen, magnitude) {
    const { data, layers, side } = model;
    const part = layers.filter((_, number) => chosen[number]);
    let above = 0;
    data.edges.slice(1).forEach((high, bin) => {
        const low = Math.max(data.edges[bin], high / 4);
        const inside = Math.min(1, Math.max(0, Math.log(high / Math.max(magnitude, low)) / Math.log(high / low)));
        if (magnitude < high) above += inside * sum(part.map((layer) => layer.histogram[side][bin]));
    });
    return above / Math.max(1, sum(part.map((layer) => layer.weights)));
}

/** About how many weights of a listed row are taken, null where it cannot be told. `row`: [number, +, -, first octave, counts...]. */
export function takenInRow(model, layer, row, found, ratio, rule) {
    const counts = row.slice(4);
    const all = sum(counts);
    if (found.all) return all;
    if (found.problem || found.hint) return null;
    if (rule === "row" || rule === "row_min1") {
        return Math.min(all, Math.max(rule === "row_min1" ? 1 : 0, shareCount(ratio, layer.shape[1])));
    }
    if (!found.thresholds) return 0;
    const own = rule === "layer" ? fromTheTop(layer.histogram[model.side], 0, model.data.edges, shareCount(ratio, layer.weights)).threshold : found.thresholds[0];
    let above = 0;
    counts.forEach((value, number) => {
        const [low, high] = [model.data.octaves[row[3] + number], model.data.octaves[row[3] + number + 1]];
        above += value * Math.min(1, Math.max(0, Math.log(high / Math.max(own, low)) / Math.log(high / low)));
    });
    return Math.round(above);
}

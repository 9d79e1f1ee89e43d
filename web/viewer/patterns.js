// Layers chosen by patterns, one per line, as cad_engine/layer_choice.py reads them; and short patterns for layers that were clicked.

/** Python's fnmatchcase as a regular expression: * any characters, ? one, [abc] and [!abc] one of a set. */
function expression(pattern) {
    let source = "";
    for (let i = 0; i < pattern.length; i++) {
        const sign = pattern[i];
        const end = sign === "[" ? pattern.indexOf("]", pattern[i + 1] === "!" ? i + 3 : i + 2) : -1;
        if (sign === "*") source += ".*";
        else if (sign === "?") source += ".";
        else if (end > 0) {
            const set = pattern.slice(i + 1, end).replace(/[\\\]^]/g, "\\$&");
            source += set.startsWith("!") ? `[^${set.slice(1)}]` : `[${set}]`;
            i = end;
        } else source += sign.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
    }
    try {
        return new RegExp(`^${source}$`, "su");
    } catch {
        return /^(?!)/; // a range that makes no sense matches nothing
    }
}

/** The patterns of a text: its lines without blanks around them, and without empty ones. */
export function parsePatterns(text) {
    return String(text ?? "")
        .split(/\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/)
        .map((line) => line.trim())
        .filter(Boolean);
}

function matches(pattern, layers) {
    const wanted = expression(pattern);
    return layers.map(({ name, label }) => name === pattern || label === pattern || wanted.test(name) || wanted.test(label));
}

/** Which layers a text of patterns chooses, and the patterns that match none. No pattern chooses all. */
export function chosenLayers(text, layers) {
    const patterns = parsePatterns(text);
    if (!patterns.length) return { chosen: layers.map(() => true), unmatched: [] };
    const chosen = layers.map(() => false);
    const unmatched = [];
    for (const pattern of patterns) {
        const found = matches(pattern, layers);
        if (!found.includes(true)) unmatched.push(pattern);
        found.forEach((is, number) => (chosen[number] ||= is));
    }
    return { chosen, unmatched };
}

/** A pattern for one layer alone: its label where that is its own, else its name, whose shortened parts become *. */
function exact({ name }) {
    return name
        .replace(/[*?[]/g, "[$&]")
        .replaceAll("\u2026", "*")
        .replaceAll("\ufffd", "?");
}

const SIDES = [
    ["down", "in *"],
    ["mid", "mid *"],
    ["up", "out *"],
];

/** The text of patterns that chooses exactly these layers; empty for all of them. */
export function choiceText(chosen, layers) {
    if (chosen.every(Boolean)) return "";
    const left = new Set(layers.keys());
    chosen.forEach((is, number) => is || left.delete(number));
    const lines = [];
    const take = (pattern, isWanted) => {
        const found = [...layers.keys()].filter(isWanted);
        if (!found.length || !found.every((number) => left.has(number))) return;
        if (matches(pattern, layers).some((is, number) => is && !chosen[number])) return;
        if (found.length > 1) {
            lines.push(pattern);
            found.forEach((number) => left.delete(number));
        }
    };
    for (const [side, pattern] of SIDES) take(pattern, (number) => layers[number].side === side);
    for (const group of new Set(layers.map((layer) => layer.group))) {
        if (group) take(`${group} *`, (number) => layers[number].group === group);
    }
    for (const number of left) {
        const { label } = layers[number];
        const own = !/[*?[\u2026\ufffd]/.test(label) && matches(label, layers).filter(Boolean).length === 1;
        lines.push(own ? label : exact(layers[number]));
    }
    return lines.join("\n");
}

// One diverging scale for everything: blue holds back, orange draws, and the middle is the page's own background, light or dark. Blue and
// orange stay apart for every kind of colour blindness, and no panel says anything by colour alone.

const DARK = { negative: [[44, 92, 152], [120, 184, 255]], positive: [[150, 82, 14], [255, 190, 92]], amount: [[24, 104, 94], [94, 224, 196]] };
const LIGHT = { negative: [[146, 190, 232], [24, 88, 160]], positive: [[248, 192, 122], [190, 84, 0]], amount: [[140, 210, 194], [0, 108, 90]] };

function rgb(text) {
    const [r, g, b] = text.match(/[\d.]+/g)?.map(Number) ?? [255, 255, 255];
    return text.startsWith("color(srgb") ? [r * 255, g * 255, b * 255] : [r, g, b];
}

function mixed(from, to, part) {
    return from.map((value, number) => Math.round(value + (to[number] - value) * part));
}

/** The scale for the colours that `element` (with the style sheet of the viewer) has at the moment. */
export function colourScale(element) {
    const probe = document.createElement("i");
    element.append(probe);
    const computed = (variable) => {
        probe.style.color = `var(${variable})`;
        return rgb(getComputedStyle(probe).color);
    };
    const page = computed("--cad-cell");
    const ink = computed("--cad-ink");
    const soft = computed("--cad-soft");
    const line = computed("--cad-grid");
    probe.remove();
    const dark = 0.3 * page[0] + 0.59 * page[1] + 0.11 * page[2] < 128;
    const ends = dark ? DARK : LIGHT;
    const ramp = (kind, part) => {
        const amount = Math.min(1, Math.max(0, part || 0));
        const [middle, end] = ends[kind];
        return amount < 0.5 ? mixed(page, middle, amount * 2) : mixed(middle, end, amount * 2 - 1);
    };
    const css = (colour) => `rgb(${colour.join(" ")})`;
    return {
        dark,
        page: css(page),
        ink: css(ink),
        soft: css(soft),
        line: css(line),
        /** A colour for `part` in [-1, 1]. */
        signed: (part) => css(ramp(part < 0 ? "negative" : "positive", Math.abs(part))),
        /** 511 colours from -1 to 1, each red, green, blue, opaque, as a picture's bytes are. */
        signedBytes: Uint32Array.from({ length: 511 }, (_, number) => {
            const part = (number - 255) / 255;
            const [r, g, b] = ramp(part < 0 ? "negative" : "positive", Math.abs(part));
            return new Uint32Array(Uint8Array.of(r, g, b, 255).buffer)[0];
        }),
        /** A colour for a part in [0, 1] that has no sign. */
        amount: (part) => css(ramp("amount", part)),
    };
}

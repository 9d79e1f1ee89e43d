// Numbers as people read them.

const MINUS = "\u2212";
const THOUSANDS = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 }); // made once: it is slow to make

/** A count with thousands separators. */
export function count(value) {
    return THOUSANDS.format(Math.round(value));
}

/** A number in three digits: 0.0123, 4.56e-7, 12,300. */
export function short(value) {
    if (!Number.isFinite(value)) return "\u2013";
    const size = Math.abs(value);
    let text;
    if (size === 0) text = "0";
    else if (size >= 1e5 || size < 1e-3) text = size.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
    else text = size >= 1000 ? count(size) : String(Number(size.toPrecision(3)));
    return (value < 0 ? MINUS : "") + text.replace("e-", `e${MINUS}`);
}

/** A fraction in percent: 31 %, 0.4 %, 0.012 %; never "0 %" for something. */
export function percent(fraction) {
    if (!Number.isFinite(fraction)) return "\u2013";
    const value = fraction * 100;
    const text = value === 0 || Math.abs(value) >= 9.95 ? String(Math.round(value)) : String(Number(value.toPrecision(2)));
    return `${text.includes("e") ? short(value) : text}\u00a0%`;
}

/** "1 layer", "22 layers". */
export function counted(value, what) {
    return `${count(value)} ${what}${Math.round(value) === 1 ? "" : "s"}`;
}

/** A text cut in the middle to at most `limit` signs. */
export function cut(text, limit) {
    const half = Math.floor((limit - 1) / 2);
    return text.length <= limit ? text : `${text.slice(0, half)}\u2026${text.slice(text.length - half)}`;
}

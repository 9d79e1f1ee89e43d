// Where everything of the map stands: the way down on the left, the middle at the bottom, the way up on the right, block beside block of the
// same resolution. Numbers in pixels, and nothing drawn.

const LABEL = 40; // pixels for "out 11"
const GAP = 5;
const SLIM = 7; // a block without scored layers
const BAND = 9; // between resolutions

/** The column of its block that a layer stands in: the number of its transformer block, or -1 for what is in none. */
function columnOf(part) {
    return Number(/^block (\d+) \u00b7 /u.exec(part)?.[1] ?? -1);
}

/** The blocks in the order of computation, each with its cells in columns and rows. */
function blocksOf(model) {
    const blocks = new Map();
    for (const layer of model.layers) {
        const key = `${layer.side} ${layer.group}`;
        if (!blocks.has(key)) blocks.set(key, { side: layer.side, number: layer.block, label: layer.group, cells: [], columns: [] });
        const block = blocks.get(key);
        const column = columnOf(layer.part);
        if (!block.columns.includes(column)) block.columns.push(column);
        block.cells.push({ index: layer.index, column: block.columns.indexOf(column) });
    }
    for (const block of blocks.values()) {
        const height = new Map();
        for (const cell of block.cells) {
            cell.row = height.get(cell.column) ?? 0;
            height.set(cell.column, cell.row + 1);
        }
        block.height = Math.max(...height.values());
    }
    return [...blocks.values()];
}

/** The blocks on the two ways by level, with empty ones where the model has a block that was not scored. */
function levelsOf(model, blocks) {
    const { unet } = model.data;
    const find = (side, number) => blocks.find((block) => block.side === side && block.number === number);
    if (!unet) {
        const way = (side) => blocks.filter((block) => block.side === side);
        return [{ size: "", down: way("down"), up: way("up").reverse() }];
    }
    const empty = (label) => ({ label, cells: [], columns: [], height: 0 });
    const known = new Set();
    const levels = unet.sizes.map((size, level) => {
        const numbers = Array.from({ length: unet.per_level }, (_, n) => n);
        const down = numbers.map((n) => find("down", level * unet.per_level + n) ?? empty(`in ${level * unet.per_level + n}`));
        const first = (unet.levels - 1 - level) * unet.per_level;
        const up = numbers.map((n) => find("up", first + n) ?? empty(`out ${first + n}`)).reverse();
        [...down, ...up].forEach((block) => known.add(block));
        return { size, down, up };
    });
    // Blocks beyond what the family has, and the last convolution, belong to the outermost level.
    levels[0].down.push(...blocks.filter((block) => block.side === "down" && !known.has(block)));
    levels[0].up.unshift(...blocks.filter((block) => block.side === "up" && !known.has(block)).reverse());
    return levels;
}

/** Places of all cells and labels for a width in pixels. */
export function layOut(model, width) {
    const blocks = blocksOf(model);
    const levels = levelsOf(model, blocks);
    const ways = blocks.filter((block) => block.side === "down" || block.side === "up");
    const columns = Math.max(1, ...ways.map((block) => block.columns.length), ...blocks.filter((b) => b.side === "mid").map((b) => b.columns.length / 1.6));
    const tallest = Math.max(1, ...blocks.map((block) => block.height));
    const indent = levels.length > 1 ? Math.min(30, width * 0.035) : 0;
    const middleGap = Math.min(110, Math.max(56, width * 0.14));
    const side = (width - middleGap) / 2 - LABEL - indent * (levels.length - 1);
    const cell = Math.max(4, Math.min(columns > 2 ? 46 : 56, side / columns));
    const edge = Math.max(0, side - columns * cell); // what is left over, so that the U stands in the middle
    const outer = (depth) => edge + LABEL + depth * indent;
    const row = tallest <= 2 ? 15 : tallest <= 4 ? 12 : 8;
    const placed = { cells: [], labels: [], slim: [], bands: [], path: [], skips: [], width, height: 0 };
    const wide = (block) => Math.max(1, block.columns.length) * cell;
    const tall = (block) => (block.cells.length ? block.height * row : SLIM);
    const putBlock = (block, x, y, labelAt) => {
        const box = { x, y, width: wide(block), height: tall(block) };
        if (!block.cells.length) placed.slim.push({ ...box, width: cell, x: labelAt < 0 ? x : x + wide(block) - cell, label: block.label });
        else placed.labels.push({ x: labelAt < 0 ? x - 6 : x + box.width + 6, y: y + box.height / 2, end: labelAt < 0, text: block.label, cells: block.cells.map((each) => each.index) });
        for (const each of block.cells) {
            placed.cells.push({ index: each.index, x: x + each.column * cell, y: y + each.row * row, width: cell, height: row });
        }
        return box;
    };
    let y = 2;
    const lone = (kind, title) => {
        const block = blocks.find((each) => each.side === kind);
        if (!block) return;
        const per = Math.max(1, Math.floor((width - edge - 120) / 18));
        placed.labels.push({ x: edge + 4, y: y + row / 2, end: false, text: title, cells: block.cells.map((each) => each.index) });
        block.cells.forEach((each, number) => {
            placed.cells.push({ index: each.index, x: edge + 84 + (number % per) * 18, y: y + Math.floor(number / per) * row, width: 18, height: row });
        });
        y += Math.ceil(block.cells.length / per) * row + BAND;
    };
    lone("embed", "embeddings");
    const centres = { down: new Map(), up: new Map() };
    levels.forEach((level, depth) => {
        const heights = ["down", "up"].map((way) => level[way].reduce((total, block) => total + tall(block) + GAP, -GAP));
        const height = Math.max(0, ...heights);
        placed.bands.push({ y, height, size: level.size, x: outer(depth), width: width - 2 * outer(depth) });
        for (const way of ["down", "up"]) {
            let at = y + (height - heights[way === "down" ? 0 : 1]) / 2;
            for (const block of level[way]) {
                const x = way === "down" ? outer(depth) : width - outer(depth) - wide(block);
                const box = putBlock(block, x, at, way === "down" ? -1 : 1);
                const inner = way === "down" ? box.x + (block.cells.length ? box.width : cell) : block.cells.length ? box.x : x + wide(block) - cell;
                centres[way].set(block.label, [inner, at + box.height / 2]);
                at += box.height + GAP;
            }
        }
        y += height + BAND;
    });
    const blocksBefore = (model.data.unet?.levels ?? 0) * (model.data.unet?.per_level ?? 0);
    for (let n = 0; n < blocksBefore; n++) {
        const [a, b] = [centres.down.get(`in ${n}`), centres.up.get(`out ${blocksBefore - 1 - n}`)];
        if (a && b) placed.skips.push([...a, ...b]);
    }
    const middle = blocks.filter((block) => block.side === "mid");
    if (middle.length || model.data.unet) {
        const total = middle.reduce((most, block) => Math.max(most, wide(block)), cell);
        const label = middle.length ? 0 : 1;
        let at = y + 2;
        for (const block of middle) {
            putBlock(block, (width - total) / 2, at, -1);
            at += tall(block) + GAP;
        }
        if (label) placed.slim.push({ x: (width - cell) / 2, y: at, width: cell, height: SLIM, label: "mid" });
        y = at + (label ? SLIM : 0) + BAND;
    }
    lone("other", "other layers");
    placed.height = y;
    return placed;
}

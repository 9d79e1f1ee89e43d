// The Attribution Viewer in its node, on the canvas and in Nodes 2.0: everything of ComfyUI that web/viewer should not know.
//
// The choice of layers, the ratio and the selection stay in the node's own inputs, so that saving, undo, copying and the API have one
// place for them. A run leaves its data in a file in ComfyUI's temp folder and hands on the file's name; after a reload of the page that
// name is in the server's history.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { createViewer } from "./viewer/viewer.js";

const NODE = "CADAttributionViewer";
const SIZE = [600, 900]; // of a new node, in pixels
const LEAST_HEIGHT = 320;
const TEXT_HEIGHT = 52; // of the input layers
const NAMELESS = "00000000-0000-0000-0000-000000000000"; // the id of graphs that were made from a prompt, until they are loaded again
const EMPTY = "Run the graph to see which layers draw the concept and which hold it back.";
const GONE = "The server no longer has the data of the last run. Run the graph to see the map.";
const VIEW = "cad_view"; // node.properties: what is shown, without what is the default
const SHOWN = "cad_shown"; // node.properties of a pasted node: the file that the copied one showed

const shown = new Map(); // node -> what of it is kept here

function addStyle() {
    for (const name of ["viewer/vendor/uPlot.css", "viewer/viewer.css"]) {
        const href = new URL(name, import.meta.url).href;
        if ([...document.styleSheets].some((sheet) => sheet.href === href) || document.querySelector(`link[href="${href}"]`)) continue;
        const link = document.createElement("link");
        link.rel = "stylesheet";
        link.href = href;
        link.addEventListener("load", () => shown.forEach(({ viewer }) => viewer.redraw()));
        document.head.append(link);
    }
}

const files = new Map(); // the last few files' data, so that undo and tab switches show it at once

async function dataOf(file) {
    if (!files.has(file)) {
        if (files.size > 12) files.delete(files.keys().next().value);
        const query = new URLSearchParams({ filename: file, subfolder: "cad", type: "temp" });
        const answer = api.fetchApi(`/view?${query}`, { cache: "force-cache" }).then((response) => (response.ok ? response.json() : Promise.reject(new Error(GONE))));
        answer.catch(() => files.delete(file));
        files.set(file, answer);
    }
    return files.get(file);
}

/** The key of a node's outputs in the front end: its id, and before it the subgraph that it is in. */
function locator(node) {
    const root = app.rootGraph ?? app.graph;
    const inside = node.graph && node.graph !== root && node.graph.id && node.graph.isRootGraph === false;
    return inside ? `${node.graph.id}:${node.id}` : String(node.id);
}

/** Let go of viewers whose graph is no more: front ends do not tell the nodes of a subgraph that another workflow takes its place. */
function forgetLost() {
    const root = app.rootGraph ?? app.graph;
    for (const [node, { viewer }] of shown) {
        if (node.graph === root || (node.graph && root.subgraphs?.get(node.graph.id) === node.graph)) continue;
        viewer.destroy();
        shown.delete(node);
    }
}

let history = null; // one request for all nodes of a workflow that is loaded

function lastRuns() {
    history ??= api
        .fetchApi("/history?max_items=100")
        .then((response) => response.json())
        .then((runs) => Object.values(runs).reverse())
        .catch(() => [])
        .finally(() => (history = null));
    return history;
}

/** The file that the last run of this workflow left for `node`, or undefined. */
async function fileOfLastRun(node) {
    const workflow = (app.rootGraph ?? app.graph)?.id;
    for (const { outputs, prompt } of await lastRuns()) {
        const ran = prompt?.[3]?.extra_pnginfo?.workflow?.id;
        if (ran && ran !== NAMELESS && workflow && ran !== workflow) continue;
        for (const [id, output] of Object.entries(outputs ?? {})) {
            const own = id === String(node.id) || (node.graph?.isRootGraph === false && id.endsWith(`:${node.id}`));
            if (own && prompt?.[2]?.[id]?.class_type === NODE && output.cad?.[0]?.file) return output.cad[0].file;
        }
    }
}

/** One more step for undo, if something changed; the front end looks by itself only after clicks and keys that it sees. */
function remember() {
    const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
    (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker);
}

class InNode {
    constructor(node) {
        this.node = node;
        this.file = null;
        this.asked = null;
        const element = document.createElement("div");
        this.viewer = createViewer(element, {
            layout: "tabs",
            onLayers: (text) => this.write("layers", text, true),
            onRatio: (value, finished) => this.write("ratio", value, finished),
            onRule: (value) => this.write("selection", value, true),
            onView: (view) => this.keepView(view),
        });
        element.viewer = this.viewer;
        this.element = element;
        this.viewer.say(EMPTY);
        for (const kind of ["pointerdown", "pointermove", "pointerup", "mousedown", "mouseup", "click", "dblclick", "contextmenu"]) {
            element.addEventListener(kind, (event) => event.stopPropagation());
        }
        element.addEventListener("wheel", (event) => element.scrollHeight > element.clientHeight && !event.ctrlKey && event.stopPropagation());
        element.addEventListener("keydown", (event) => event.ctrlKey || event.metaKey || event.stopPropagation());
        this.widget = node.addDOMWidget("map", "cad_map", element, {
            serialize: false,
            hideOnZoom: false,
            getMinHeight: () => LEAST_HEIGHT,
            getValue: () => "",
            setValue: () => {},
        });
        this.widget.serialize = false;
        for (const name of ["ratio", "selection", "layers"]) this.follow(name);
        // On the canvas boxes of text share out the height evenly; the map needs it more.
        const { options } = this.input("layers") ?? {};
        if (options) options.getMinHeight = options.getMaxHeight = () => TEXT_HEIGHT;
    }

    input(name) {
        return this.node.widgets?.find((widget) => widget.name === name);
    }

    follow(name) {
        const widget = this.input(name);
        if (!widget) return;
        const { callback } = widget;
        const read = () => this.read();
        widget.callback = function (...values) {
            const result = callback?.apply(this, values);
            queueMicrotask(read);
            return result;
        };
    }

    write(name, value, finished) {
        const widget = this.input(name);
        if (!widget || widget.value === value) return finished && remember();
        widget.value = value;
        widget.callback?.(value, app.canvas, this.node);
        this.node.graph?.setDirtyCanvas?.(true, true);
        if (finished) remember();
    }

    /** Show what the inputs say; of an input that another node gives, what it was in the last run. */
    read() {
        const linked = (name) => this.node.inputs?.some((input) => input.name === name && input.link != null);
        const ratio = linked("ratio") ? this.asked?.ratio : Number(this.input("ratio")?.value);
        const rule = linked("selection") ? this.asked?.rule : this.input("selection")?.value;
        const layers = linked("layers") ? this.asked?.layers : this.input("layers")?.value;
        const now = { ratio: ratio || 0, rule: rule ?? "global", layers: String(layers ?? "") };
        const before = this.viewer.inputs;
        if (Object.keys(now).some((name) => now[name] !== before[name])) this.viewer.set(now);
    }

    keepView(view) {
        const kept = Object.fromEntries(Object.entries(view).filter(([name, value]) => name !== "sort" && value !== this.viewer.usual[name]));
        if (Object.keys(kept).length) this.node.properties[VIEW] = kept;
        else delete this.node.properties[VIEW];
    }

    /** Nodes 2.0 of newer front ends keeps what it mounted for a node when undo makes the node anew: this takes its place. */
    mount(tries = 20) {
        if (this.element.isConnected || !tries || !shown.has(this.node)) return;
        const before = document.querySelector(`[data-node-id="${CSS.escape(String(this.node.id))}"] .cad-viewer`);
        if (before && ![...shown.values()].some(({ element }) => element === before)) before.replaceWith(this.element);
        else setTimeout(() => this.mount(tries - 1), 50);
    }

    /** Everything again after the node got its saved values. */
    configured() {
        this.mount();
        this.viewer.setView(this.node.properties?.[VIEW] ?? {});
        this.read();
        this.restore();
    }

    async restore() {
        const file = app.nodeOutputs?.[locator(this.node)]?.cad?.[0]?.file;
        if (file) return this.show(file);
        if (this.file) return;
        const found = (await fileOfLastRun(this.node)) ?? this.node.properties?.[SHOWN];
        if (found && !this.file && shown.has(this.node)) this.show(found);
    }

    async show(file) {
        if (!file || file === this.file) return this.read();
        this.file = file;
        try {
            const data = await dataOf(file);
            if (this.file !== file) return; // another run was quicker
            this.asked = data.asked;
            this.read();
            this.viewer.show(data);
        } catch (error) {
            if (this.file !== file) return;
            this.file = null;
            this.viewer.say(error.message === GONE ? GONE : `The data cannot be read: ${error.message}`, "problem");
        }
    }
}

app.registerExtension({
    name: "cad-diffusion.attribution_viewer",

    setup() {
        addStyle();
        api.addEventListener("execution_error", ({ detail }) => {
            for (const [node, { viewer }] of shown) {
                if (String(detail?.node_id).split(":").at(-1) === String(node.id) && detail.node_type === NODE) viewer.say(detail.exception_message, "problem");
            }
        });
    },

    nodeCreated(node) {
        if (node.comfyClass !== NODE) return;
        const inNode = new InNode(node);
        shown.set(node, inNode);
        node.setSize([Math.max(node.size[0], SIZE[0]), Math.max(node.size[1], SIZE[1])]);

        const { onExecuted, onConfigure, onRemoved, clone } = node;
        node.onExecuted = function (output, ...more) {
            onExecuted?.call(this, output, ...more);
            inNode.show(output?.cad?.[0]?.file);
        };
        node.onConfigure = function (...saved) {
            onConfigure?.apply(this, saved);
            queueMicrotask(() => inNode.configured());
        };
        node.onRemoved = function (...more) {
            onRemoved?.apply(this, more);
            inNode.viewer.destroy();
            shown.delete(node);
        };
        // A copy shows what its original does until it has run itself.
        node.clone = function (...more) {
            const copy = clone.apply(this, more);
            if (copy && inNode.file) copy.properties = { ...copy.properties, [SHOWN]: inNode.file };
            return copy;
        };
    },

    afterConfigureGraph: forgetLost,

    onNodeOutputsUpdated() {
        shown.forEach((inNode) => inNode.restore());
    },
});

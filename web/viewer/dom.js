// Elements made in one line. Texts become text nodes: nothing here, and nothing that uses it, ever takes a text for HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
        if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
        else if (value === true) element.setAttribute(name, "");
        else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
}

/** An HTML element; `attributes.on` are listeners by event, children are elements or plain texts. */
export function el(tag, attributes = {}, ...children) {
    return fill(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function svg(tag, attributes = {}, ...children) {
    return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Write an attribute or a text only where it changes, which is most of what makes redrawing cheap. */
export function put(element, name, value) {
    const text = String(value);
    if (name === "text") {
        if (element.textContent !== text) element.textContent = text;
    } else if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/** Where a pointer is in `element`, in its own pixels, however much what is around it is zoomed. */
export function within(element, event) {
    const box = element.getBoundingClientRect();
    return { x: ((event.clientX - box.left) * element.offsetWidth) / box.width, y: ((event.clientY - box.top) * element.offsetHeight) / box.height };
}

/** A group of buttons of which one is pressed. `options`: [value, text, hint]; `choose(value)` is called on a press. */
export function switcher(label, options, choose) {
    const buttons = options.map(([value, text, hint]) =>
        el("button", { type: "button", role: "radio", title: hint, on: { click: () => choose(value) } }, text),
    );
    const element = el("div", { class: "cad-switch", role: "radiogroup", "aria-label": label }, ...buttons);
    element.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        const usable = buttons.filter((button) => !button.hidden);
        const next = usable[(usable.indexOf(document.activeElement) + step + usable.length) % usable.length];
        next.focus();
        next.click();
    });
    return {
        element,
        show(value) {
            options.forEach(([each], number) => {
                put(buttons[number], "aria-checked", each === value);
                put(buttons[number], "tabindex", each === value ? 0 : -1);
            });
        },
    };
}

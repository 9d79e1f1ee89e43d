// On the canvas a text box is made two lines high, and the line that a node writes on itself shares the space with it. A new node of the
// kind that has both gets more; one of a saved workflow has its saved size, which is set after this.

import { app } from "../../scripts/app.js";

const ROOM = { CADAttribute: 200 }; // pixels

app.registerExtension({
    name: "cad-diffusion.room_for_text",
    nodeCreated(node) {
        const more = ROOM[node.comfyClass];
        if (more) node.setSize([node.size[0], node.size[1] + more]);
    },
});

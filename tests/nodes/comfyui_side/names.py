"""Run by ComfyUI's own Python: the pack's model folders beside a user's own, and which file names they take.

Usage: names.py USERS_FOLDER NAMES, a JSON list. USERS_FOLDER is where the user's extra_model_paths.yaml keeps edits. Prints one JSON
object: "folders" (folder -> paths and endings), "names" (the safe form of each, or null), "refusals" (name -> message).
"""

import json
import sys

USERS_FOLDER, NAMES = sys.argv[1], json.loads(sys.argv[2])

sys.argv = [sys.argv[0], "--cpu"]

import comfy.options  # noqa: E402 - ComfyUI reads its command line when it is imported.

comfy.options.enable_args_parsing()

import folder_paths  # noqa: E402

folder_paths.add_model_folder_path("cad_edits", USERS_FOLDER)  # as ComfyUI does with that file, before it loads any pack

import pack  # noqa: E402

folders = pack.part("nodes.folders")
errors = pack.part("cad_engine.errors")
safe, refusals = [], {}
for name in NAMES:
    try:
        safe.append(folders.safe_name(name))
    except errors.CadError as error:
        safe.append(None)
        refusals[str(name)] = str(error)
paths = {
    name: [folder_paths.get_folder_paths(name), sorted(folder_paths.folder_names_and_paths[name][1])]
    for name in ("cad_edits", "cad_attributions")
}
print(json.dumps({"folders": paths, "names": safe, "refusals": refusals}))

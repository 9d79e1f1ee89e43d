// What is said about an attribution, which depends on what it was made for and on what its weights are ranked by.

/** Sentences and labels for a prepared model. */
export function words(model) {
    const { data, amplify } = model;
    const concept = String(data.info.concept ?? "?");
    const taken = amplify ? "holds it back" : "draws it";
    const scores = {
        attribution: ["attribution", "Weights are ranked by their attribution: how much of the concept each weight makes, to first order."],
        "attribution per harm": [
            "attribution per harm",
            "Weights are ranked by attribution per harm to what is kept. Such ratios do not add up, so there is no share of the mass.",
        ],
        effect: [
            "effect of the change",
            "Rounds found the weights and how far each is changed. They are ranked by how much of the predictions their change moves; weights that are not changed have no score.",
        ],
    }[data.score] ?? [String(data.score), ""];
    return {
        concept,
        verb: amplify ? "amplify" : "erase",
        doing: amplify ? "Amplifying" : "Erasing",
        node: amplify ? "CAD Amplify" : "CAD Erase",
        right: taken,
        rightMass: amplify ? "negative mass, what holds it back" : "positive mass, what draws it",
        positive: "draws it",
        negative: "holds it back",
        score: scores[0],
        ranked: scores[1],
        shareOf: data.score === "effect" ? "of all that the changes move" : amplify ? "of the total negative mass" : "of the total positive mass",
        change: model.solved ? "changed" : "set to zero",
    };
}

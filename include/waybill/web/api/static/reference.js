// Swagger UI with the document of this installation, and the calls in three languages that the document brings along.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

const Samples = () => ({
  wrapComponents: {
    responses: (Responses, { React, specSelectors }) => (props) => {
      const operation = specSelectors.specJson().getIn(["paths", props.path, props.method]);
      const samples = operation && operation.get("x-codeSamples");
      const shown = (samples ? samples.toJS() : []).map((one) =>
        React.createElement(
          "details",
          { key: one.label },
          React.createElement("summary", null, one.label),
          React.createElement("pre", { tabIndex: 0 }, React.createElement("code", null, one.source)),
        ),
      );
      return React.createElement(
        "div",
        null,
        React.createElement("div", { className: "samples" }, React.createElement("h4", null, "Request samples"), shown),
        React.createElement(Responses, props),
      );
    },
  },
});

window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  persistAuthorization: false,
  validatorUrl: null,
  plugins: [Samples],
});

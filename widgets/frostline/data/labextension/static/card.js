// A card of JupyterLab's Launcher: a new notebook with frostline's panel. Written as JupyterLab loads extensions, so
// that nothing has to be built: an entry of `_JUPYTERLAB` with `init` and `get`.
(() => {
  const COMMAND = "frostline:new-notebook";
  const CELLS = [
    ["markdown", "# Compare annotation strategies\n\nRun the cell, choose cells and labels, and press **Run**."],
    ["code", "import frostline\n\npanel = frostline.panels.AnnotationPanel()\npanel"],
  ];
  const ICON =
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><g fill="none" stroke="#0072b2" stroke-width="2.4" ' +
    'stroke-linecap="round"><path d="M16 4v24M5.6 10l20.8 12M26.4 10L5.6 22"/><path d="M12.5 6.5L16 10l3.5-3.5' +
    'M12.5 25.5L16 22l3.5 3.5"/></g></svg>';
  let shared = {};

  // What JupyterLab shares under a name, of the version that it loaded.
  const imported = async (name) => {
    const versions = Object.values(shared[name] ?? {});
    const chosen = versions.find((version) => version.loaded) ?? versions[0];
    return (await chosen.get())();
  };

  const notebook = () => ({
    cells: CELLS.map(([kind, source], index) => ({
      id: `frostline-${index}`,
      cell_type: kind,
      metadata: {},
      source,
      ...(kind === "code" ? { execution_count: null, outputs: [] } : {}),
    })),
    metadata: { kernelspec: { display_name: "Python 3 (ipykernel)", language: "python", name: "python3" } },
    nbformat: 4,
    nbformat_minor: 5,
  });

  const open = async (app, folder) => {
    const contents = app.serviceManager.contents;
    const made = await contents.newUntitled({ path: folder, type: "notebook" });
    await contents.save(made.path, { type: "notebook", format: "json", content: notebook() });
    return app.commands.execute("docmanager:open", { path: made.path, factory: "Notebook" });
  };

  const extension = async () => {
    const { ILauncher } = await imported("@jupyterlab/launcher");
    const activate = (app, launcher) => {
      app.commands.addCommand(COMMAND, {
        label: "frostline",
        caption: "Compare annotation strategies on your cells",
        iconClass: "frostline-icon",
        execute: (args) => open(app, args?.cwd ?? ""),
      });
      launcher?.add({
        command: COMMAND,
        category: "Notebook",
        rank: 5,
        kernelIconUrl: `data:image/svg+xml,${encodeURIComponent(ICON)}`,
      });
    };
    return { __esModule: true, default: { id: "frostline:card", autoStart: true, optional: [ILauncher], activate } };
  };

  (window._JUPYTERLAB ??= {}).frostline = {
    init: (scope) => {
      shared = scope;
    },
    get: async () => {
      const found = await extension();
      return () => found;
    },
  };
})();

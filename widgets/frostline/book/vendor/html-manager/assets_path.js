window.__jupyter_widgets_assets_path__ = new URL(".", document.currentScript.src).href;

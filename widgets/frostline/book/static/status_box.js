// On a narrow screen the tutorial comes first: the box is folded to one line, which opens it again.
document.addEventListener("DOMContentLoaded", () => {
  if (window.matchMedia("(max-width: 600px)").matches) {
    document.querySelectorAll("details.frostline-about").forEach((box) => box.removeAttribute("open"));
  }
});

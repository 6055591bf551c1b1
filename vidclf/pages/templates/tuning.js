// The slider hides trials below a score in charts and table. Pointing at a trial highlights it everywhere.
const least = document.getElementById("least");
least.addEventListener("input", () => {
  document.getElementById("least-shown").value = (100 * least.value).toFixed(1) + " %";
  for (const drawn of document.querySelectorAll("[data-score]")) {
    drawn.classList.toggle("below", Number(drawn.dataset.score) < Number(least.value) - 1e-6);
  }
});
for (const [kind, is_on] of [["mouseover", true], ["mouseout", false]]) {
  document.addEventListener(kind, event => {
    const pointed = event.target.closest("[data-trial]");
    if (!pointed) return;
    for (const drawn of document.querySelectorAll(`[data-trial="${pointed.dataset.trial}"]`)) {
      drawn.classList.toggle("pointed", is_on);
    }
  });
}

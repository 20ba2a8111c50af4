// The front end's internal state, used only where there is no API; callers handle its absence.
export function store(name) {
  const vue = document.getElementById("vue-app")?.__vue_app__;
  return vue?.config.globalProperties.$pinia?._s.get(name);
}

// The front end's own state, where there is no other way to it; each use does without where it is not there.
export function store(name) {
  const vue = document.getElementById("vue-app")?.__vue_app__;
  return vue?.config.globalProperties.$pinia?._s.get(name);
}

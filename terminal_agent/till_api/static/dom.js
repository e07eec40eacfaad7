// Views are functions from state to a tree of plain objects; patch() makes the document equal to the tree and keeps the
// elements that stay, with their focus and their animations.

const SVG = "http://www.w3.org/2000/svg";
const given = new WeakMap();

/** h("button.primary", {onclick, key, focus}, "text", other…). `key`: another key is another element. */
export function h(name, props = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const all = classes.length ? { ...props, class: [...classes, props.class].filter(Boolean).join(" ") } : props;
  return { tag, props: all, children: flat(children) };
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child || child === 0).map((child) => (child.tag ? child : String(child)));
}

export function patch(parent, children) {
  flat([children]).forEach((wanted, place) => {
    const there = parent.childNodes[place];
    if (there && isSame(there, wanted)) update(there, wanted);
    else if (there) parent.replaceChild(create(wanted, parent), there);
    else parent.append(create(wanted, parent));
  });
  while (parent.childNodes.length > flat([children]).length) parent.lastChild.remove();
}

function isSame(node, wanted) {
  if (typeof wanted === "string") return node.nodeType === Node.TEXT_NODE;
  return node.localName === wanted.tag && given.get(node)?.key === wanted.props.key;
}

function create(wanted, parent) {
  if (typeof wanted === "string") return document.createTextNode(wanted);
  const inSvg = wanted.tag === "svg" || parent.namespaceURI === SVG;
  const element = inSvg ? document.createElementNS(SVG, wanted.tag) : document.createElement(wanted.tag);
  given.set(element, {});
  update(element, wanted);
  if (wanted.props.focus) queueMicrotask(() => element.focus());
  if (wanted.props.modal) queueMicrotask(() => element.isConnected && element.showModal());
  return element;
}

function update(node, wanted) {
  if (typeof wanted === "string") {
    if (node.data !== wanted) node.data = wanted;
    return;
  }
  const before = given.get(node);
  for (const name of Object.keys({ ...before, ...wanted.props })) {
    const value = wanted.props[name];
    if (name === "value") {
      if (node.value !== value) node.value = value;
    } else if (value !== before[name]) {
      set(node, name, value);
    }
  }
  given.set(node, wanted.props);
  patch(node, wanted.children);
}

function set(node, name, value) {
  if (name === "key" || name === "focus" || name === "modal") return;
  if (name.startsWith("on")) node[name] = value ?? null;
  else if (value === false || value === undefined || value === null) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : value);
}

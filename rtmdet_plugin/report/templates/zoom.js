const dialog = document.getElementById('zoom');
for (const button of document.querySelectorAll('button.zoom')) {
  button.addEventListener('click', () => {
    const copy = button.querySelector('.panels').cloneNode(true);
    const image = copy.querySelector('image');
    const repeated = copy.querySelector('use');
    image.removeAttribute('id');
    repeated.replaceWith(image.cloneNode());
    dialog.querySelector('div').replaceChildren(copy);
    dialog.showModal();
  });
}
dialog.querySelector('.full').addEventListener('click', () => dialog.classList.toggle('full-size'));

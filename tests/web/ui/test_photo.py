"""The photo as people see it: whole, as large as cameras make it, beside the plate and enlarged."""

import cv2
import numpy
import pytest
from playwright.async_api import Route

from tests.web.ui.conftest import Screen, until

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

FITS = """() => [...document.querySelectorAll('img')].filter(e => e.offsetWidth).every(img => {
  const [inner, outer] = [img, img.closest('button, .frame')].map(e => e.getBoundingClientRect());
  const isWhole = getComputedStyle(img).objectFit === 'contain';
  return isWhole && inner.width <= outer.width && inner.height <= outer.height && inner.height > 40;
})"""
IN_SIGHT = """button => {
  const { x, y, width, height } = button.getBoundingClientRect();
  const { color, backgroundColor } = getComputedStyle(button);
  return button.contains(document.elementFromPoint(x + width / 2, y + height / 2))
    && color !== backgroundColor;
}"""


async def with_camera(screen: Screen) -> None:
    """As large as a lane camera's picture, not as small as a drawing."""
    _, jpeg = cv2.imencode(".jpg", numpy.full((360, 640, 3), 120, numpy.uint8))

    async def shoot(route: Route) -> None:
        await route.fulfill(body=jpeg.tobytes(), content_type="image/jpeg")

    await screen.context.route("**/camera.jpg*", shoot)
    await screen.show("plate")
    await until(screen.page, "[...document.images].some(img => img.naturalWidth === 640)")


@pytest.mark.parametrize("width", [1024, 360])
async def test_the_whole_photo_is_seen_and_enlarged(booth: Screen, width: int) -> None:
    await booth.page.set_viewport_size({"width": width, "height": 740})
    await with_camera(booth)
    assert await booth.page.evaluate(FITS)
    await booth.page.locator(".photo:visible").click()
    picture = booth.page.locator(".dialog .frame img")
    await picture.wait_for()
    assert await booth.page.evaluate(FITS)
    below = await booth.page.locator(".dialog .row").bounding_box()
    above = await booth.page.locator(".dialog .frame").bounding_box()
    assert above is not None
    assert below is not None
    assert above["y"] + above["height"] <= below["y"], "over the buttons"
    for button in await booth.page.locator(".dialog button:visible").all():
        assert await button.evaluate(IN_SIGHT)
    await booth.page.get_by_role("button", name="返回").click()
    await picture.wait_for(state="detached")

"""The page at / in a real browser: token, ranking, choosing two by mouse and keyboard, reasons, scatter, card."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from served import Server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium and chromedriver here (Debian: apt-get install chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1300,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield found
    finally:
        found.quit()


@pytest.fixture(scope="module")
def page(browser: Any, service: Server) -> Any:
    """The page, unlocked with the token, with the task of the table open."""
    browser.get(service.url + "/#reviews")
    _until(browser, lambda: browser.find_element("id", "unlock").is_displayed())
    browser.find_element("id", "token").send_keys(service.token + "\n")
    _until(browser, lambda: browser.find_elements("css selector", "#answer .verdict"))
    browser.get_log("browser")
    return browser


def _until(browser: Any, reached: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60).until(lambda _: reached())


def _texts(browser: Any, selector: str) -> list[str]:
    return [e.text for e in browser.find_elements("css selector", selector)]


def test_the_ranking_is_the_services_own(page: Any, service: Server) -> None:
    _, answer = service.ask("POST", "/v1/rank", {"task": "reviews"})
    assert _texts(page, "#rows .name") == [r["checkpoint"] for r in answer["ranking"]]
    assert len(page.find_elements("css selector", "#rows tbody svg[aria-label^='score']")) == 12


def test_two_are_chosen_by_mouse_and_by_keyboard(page: Any, service: Server) -> None:
    from selenium.webdriver.common.keys import Keys

    pressed = [e.get_attribute("data-checkpoint") for e in page.find_elements("css selector", "#rows .name[aria-pressed=true]")]
    for name in pressed:
        page.find_element("css selector", f"[data-checkpoint='{name}']").click()
    page.find_element("css selector", "[data-checkpoint=m03]").click()
    page.find_element("css selector", "[data-checkpoint=m07]").send_keys(Keys.ENTER)
    _until(page, lambda: "m07" in page.find_element("css selector", "#answer").text)
    _, answer = service.ask("POST", "/v1/compare", {"task": "reviews", "a": "m03", "b": "m07"})
    verdict = page.find_element("css selector", ".verdict").text
    assert ("Too close" in verdict) == answer["too_close"]
    if not answer["too_close"]:
        assert verdict.startswith(answer["winner"])
    assert _texts(page, ".why tbody td:first-child") == [r["feature"] for r in answer["reasons"]]
    assert len(page.find_elements("css selector", ".why tbody svg rect")) == len(answer["reasons"])
    assert page.switch_to.active_element.get_attribute("data-checkpoint") == "m07"
    assert len(page.find_elements("css selector", "#scatter .dot.a, #scatter .dot.b")) == 2


def test_all_of_it_can_be_reached_and_used_by_keyboard_alone(page: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(key: str) -> Any:
        ActionChains(page).send_keys(key).perform()
        return page.switch_to.active_element

    page.execute_script("document.querySelector('a, button, input, select').focus()")
    assert page.switch_to.active_element.get_attribute("className") == "skip"
    seen = []
    while not (name := (here := press(Keys.TAB)).get_attribute("data-checkpoint")):
        seen.append(here.get_attribute("id") or here.get_attribute("className"))
    assert seen == ["task", "find"]
    before = here.get_attribute("aria-pressed")
    for turned in (True, False):  # space turns it round, and once more; the focus stays
        now = press(Keys.SPACE)
        assert now.get_attribute("data-checkpoint") == name
        assert (now.get_attribute("aria-pressed") != before) == turned
        _until(page, lambda: page.find_elements("css selector", "#answer > *"))


def test_ties_stand_together_under_the_one_they_are_too_close_to(page: Any, service: Server) -> None:
    _, answer = service.ask("POST", "/v1/rank", {"task": "reviews"})
    first = answer["ranking"][0]
    bodies = page.find_elements("css selector", "#rows tbody")
    shown = [e.text for e in bodies[0].find_elements("css selector", ".name")]
    assert set(shown) == {first["checkpoint"], *first["tied_with"]}
    assert sum(len(b.find_elements("css selector", ".name")) for b in bodies) == 12


def test_a_narrow_window_shows_all_of_it_without_scrolling_sideways(page: Any) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        for name in ("m02", "m08"):
            row = page.find_element("css selector", f"[data-checkpoint={name}]")
            page.execute_script("arguments[0].scrollIntoView({block: 'center'})", row)
            row.click()
        _until(page, lambda: page.find_element("id", "glance").is_displayed())
        page.find_element("id", "glance").click()
        assert page.switch_to.active_element.get_attribute("id") == "duel"
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_scatter_shows_the_chosen_feature_against_the_outcome(page: Any) -> None:
    from selenium.webdriver.support.ui import Select

    Select(page.find_element("id", "feature")).select_by_value("kshot_acc")
    figure = page.find_element("css selector", "#scatter svg")
    assert figure.get_attribute("aria-label") == "outcome against kshot_acc, 12 checkpoints"
    assert len(page.find_elements("css selector", "#scatter circle")) == 12


def test_the_card_shows_the_figures_on_held_out_checkpoints(page: Any, service: Server) -> None:
    _, model = service.ask("GET", "/v1/model")
    card = page.find_element("id", "card").text
    assert f"{model['card']['holdout']['accuracy'] * 100:.1f} %" in card
    assert model["ranker"]["version"] in card


def test_what_is_looked_for_is_found(page: Any) -> None:
    find = page.find_element("id", "find")
    find.send_keys("m1")
    assert set(_texts(page, "#rows .name")) == {"m10", "m11"}
    find.clear()
    find.send_keys(" ")
    find.clear()


def test_every_control_has_a_name_and_nothing_comes_from_elsewhere(page: Any, service: Server) -> None:
    import json

    for control in page.find_elements("css selector", "button, select, input"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")
    assert page.execute_script("return document.documentElement.lang") == "en"
    assert not [line for line in page.get_log("browser") if line["level"] == "SEVERE"]
    events = [json.loads(line["message"])["message"] for line in page.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert asked
    assert all(url.startswith((service.url, "data:")) for url in asked)

"""Checks a page with axe-core, the checker that browsers' own developer tools are built on."""

from __future__ import annotations

from playwright.sync_api import Page

from browser.tools import npm_file

_GRAVE = ("serious", "critical")


def assert_accessible(page: Page) -> None:
    """Fails where axe-core finds something serious or critical in the page as it stands.

    The page's own Content-Security-Policy may forbid scripts: axe is evaluated, not put in as an element.
    """
    page.evaluate(npm_file("axe-core", "axe.min.js").read_text(encoding="utf-8"))
    results = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    assert results["passes"], "axe-core applied no rule: is the page empty?"
    grave = [
        f"{found['impact']}: {found['help']} ({found['id']}): {' '.join(map(str, node['target']))}"
        for found in results["violations"]
        if found["impact"] in _GRAVE
        for node in found["nodes"]
    ]
    assert not grave, "\n".join(grave)

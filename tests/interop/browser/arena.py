"""Test the arena example's page with headless Chromium.   usage: URL=ws://... SERVER_PID=N arena.py ARENA [SCREENSHOT.png]

Two tabs play, one with the keyboard and one with the pad of a phone, and each sees the other move. Then the server is
stopped and started again, and the page must connect again by itself."""
from chromium import Tab, main, restarted

LEFT, RIGHT, DOWN = ("ArrowLeft", 37), ("ArrowRight", 39), ("ArrowDown", 40)


def place(number, axis):
    return f"players.get({number}).{axis}"


def shows_all(tab, count):
    tab.wait(f"{count} on the field", f"players.size === {count} && document.querySelectorAll('#scores li').length === {count}")


def touch(tab, kind, x, y):
    """A finger on the pad; x and y are from -1 to 1."""
    box = tab.evaluate("(({left, top, width}) => [left, top, width])(document.querySelector('#pad').getBoundingClientRect())")
    left, top, width = box
    points = [{"x": left + width * (1 + x) / 2, "y": top + width * (1 + y) / 2}] if kind != "touchEnd" else []
    tab.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)


def run(chromium, address, arena, screenshot):
    ada = Tab(chromium, f"http://{address}/")
    shows_all(ada, 1)
    ada.check("the room is in the address", "location.pathname === '/lobby'")
    bob = Tab(chromium, f"http://{address}/lobby")
    bob.call("Emulation.setTouchEmulationEnabled", enabled=True)
    bob.size(390, 760)
    for tab in (ada, bob):
        shows_all(tab, 2)
    ada.check("each knows its player", "welcome.player === 1")
    bob.check("each knows its player", "welcome.player === 2")

    ada.call("Target.activateTarget", targetId=ada.target)
    ada.hold(*LEFT)
    bob.wait("a held key moves a player to the edge of every tab", f"{place(1, 'x')} === welcome.radius[0]")
    ada.release(*LEFT)
    ada.press(*RIGHT)
    bob.wait("a short press moves a player too", f"{place(1, 'x')} > welcome.radius[0]")

    bob.call("Target.activateTarget", targetId=bob.target)
    touch(bob, "touchStart", 0, 0.8)
    ada.wait("the pad moves a player", f"{place(2, 'y')} === welcome.field[1] - welcome.radius[0]")
    touch(bob, "touchMove", 0.7, -0.7)
    ada.wait("the pad has diagonals", f"{place(2, 'y')} === welcome.radius[0] && {place(2, 'x')} > welcome.radius[0] + 100")
    if screenshot:
        bob.screenshot(screenshot.replace(".png", "-phone.png"))
    touch(bob, "touchEnd", 0, 0)
    bob.wait("a lifted finger stops it", "sent === ''")

    ada.call("Target.activateTarget", targetId=ada.target)
    ada.hold(*RIGHT)
    ada.hold(*DOWN)
    ada.wait("two keys move it into the corner",
             f"{place(1, 'x')} === welcome.field[0] - welcome.radius[0] && {place(1, 'y')} === welcome.field[1] - welcome.radius[0]")
    ada.evaluate("dispatchEvent(new Event('blur'))")
    ada.check("all keys count as released when the tab loses the focus", "sent === ''")
    if screenshot:
        ada.screenshot(screenshot)
    bob.check_looks()
    if screenshot:
        bob.screenshot(screenshot.replace(".png", "-dark.png"))

    with restarted([arena, "--addr", address, "--workers", "2"], [ada, bob]):
        for tab in (ada, bob):
            shows_all(tab, 2)
        ada.call("Page.navigate", url=f"http://{address}/elsewhere")
        for tab in (ada, bob):
            shows_all(tab, 1)
        bob.check("the page keeps the room", "document.querySelector('#title').textContent === '#lobby'")


main(run)

"""Test the chat example's page with headless Chromium.   usage: URL=ws://... SERVER_PID=N chat.py CHAT [SCREENSHOT.png]

Two tabs talk, one leaves, and the other is told. Then the server is stopped and started again, and the page must connect
again by itself."""
import json

from chromium import Tab, main, restarted


class Person(Tab):
    def enter(self, name):
        self.wait("the form has the focus", "document.readyState === 'complete' && document.activeElement.id === 'name'")
        self.type(name)

    def shows(self, name, last, count=None):
        """Wait for the last line of the log, without its time."""
        lines = "[...document.querySelectorAll('#log li')].map((li) => li.className === 'said'" \
                " || li.className === 'said own' ? li.querySelector('b').textContent + ': ' +" \
                " li.querySelector('span').textContent : li.textContent)"
        condition = f"(lines => lines.at(-1) === {json.dumps(last)})({lines})"
        if count is not None:
            condition += f" && document.querySelectorAll('#log li').length === {count}"
        self.wait(name, condition)


def run(chromium, address, chat, screenshot):
    ada = Person(chromium, f"http://{address}/")
    ada.enter("ada")
    ada.shows("ada has entered the lobby", "ada joined", 1)
    ada.check("the room is in the address", "location.pathname === '/lobby'")
    bob = Person(chromium, f"http://{address}/lobby")
    bob.enter("ada")
    bob.wait("a taken name is refused with a reason", "document.querySelector('#refusal').textContent === 'This name is taken.'")
    bob.evaluate("document.querySelector('#name').select()")
    bob.type("bob")
    bob.shows("bob has entered with another name", "bob joined", 1)
    ada.shows("ada is told", "bob joined", 2)
    talk = [(ada, "ada", "Hi Bob! Do you get this?"),
            (bob, "bob", "Yes, at once. Which worker are you on?"),
            (ada, "ada", "No idea: topics reach the members on all workers."),
            (bob, "bob", "And a newcomer gets the last 50 messages, in order \u2713"),
            (ada, "ada", "<b>Markup</b> stays text, too.")]
    for speaker, name, text in talk:
        speaker.type(text)
        for tab, reader in [(ada, "ada"), (bob, "bob")]:
            tab.shows(f"{reader} reads: {text}", f"{name}: {text}")
    members = "document.querySelector('#members').textContent === '2 here: ada, bob'"
    ada.check("both are listed", members)
    if screenshot:
        ada.evaluate("document.activeElement.blur()")
        ada.screenshot(screenshot)
        ada.evaluate("document.querySelector('#text').focus()")

    bob.check_looks()
    bob.call("Page.reload")
    bob.shows("a reload returns to the room by itself, with its history", "bob joined", 6)
    bob.check("the history is in order", "[...document.querySelectorAll('#log span')].map((it) => it.textContent).join() === "
              + json.dumps(",".join(text for _, _, text in talk)))
    ada.shows("ada is told of the reload", "bob joined", 9)

    with restarted([chat, "--addr", address, "--workers", "2"], [ada, bob]):
        for tab in (ada, bob):
            tab.wait("both are in the room again", members)
        ada.type("Still there?")
        for tab in (ada, bob):
            tab.shows("they talk again", "ada: Still there?")
        bob.call("Page.navigate", url=f"http://{address}/elsewhere")
        ada.shows("one goes to another page, the other is told", "bob left")
        bob.evaluate("history.back()")
        ada.shows("the way back leads into the room", "bob joined")
        chromium.call("Target.closeTarget", targetId=bob.target)
        ada.shows("one leaves, the other is told", "bob left")
        ada.check("ada is alone", "document.querySelector('#members').textContent === '1 here: ada'")


main(run)

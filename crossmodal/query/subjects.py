"""What photos are of, in words that people use: groups of photos are named by those that fit them best."""

from __future__ import annotations

__all__ = ["SUBJECTS"]

_LINES = """
people; crowd; children; baby; portraits; family; friends; wedding; party; birthday; concert; dancing
parade; meeting; people at work; classroom; reading; market; shopping; museum; church; statue; ceremony
dogs; cats; birds; horses; cows; sheep; elephants; giraffes; zebras; bears; monkeys; fish; insects
butterflies; reptiles; ducks; wild animals; zoo; pets; farm animals; sea; beach; surfing; boats; harbour
lake; river; waterfall; swimming; pool; fishing; island; under water; mountains; snow; skiing; ice; forest
trees; park; garden; flowers; leaves; mushrooms; grass; fields; farm; desert; rocks; climbing; hiking
camping; road; path; bridge; clouds; sunset; night sky; fog; rain; autumn; city; buildings; skyscrapers
street; shops; signs; traffic lights; traffic; houses; castle; ruins; tower; clocks; windows; stairs
tunnel; graffiti; fireworks; city lights; aerial views; cars; old cars; buses; trucks; motorcycles
bicycles; trains; railway station; aeroplanes; airport; ships; tractors; food; meals; pizza; cakes
desserts; bread; fruit; vegetables; meat; salads; soup; sandwiches; breakfast; coffee; drinks; wine
restaurant; cooking; groceries; bottles; kitchen; bathroom; bedroom; living room; furniture; chairs; sofa
bed; office; desk; computers; screens; televisions; telephones; books; toys; clothes; shoes; hats; bags
jewellery; umbrellas; lamps; tools; machines; instruments; guitars; money; coins; documents; maps
screenshots; drawings; paintings; black and white photos; patterns; laboratory; space; football; baseball
basketball; tennis; golf; skateboarding; cycling; running; jumping; gymnastics; martial arts; hockey
rugby; horse riding; kites; balls; games; playground; stadium; race
"""

SUBJECTS = tuple(name for line in _LINES.split("\n") for name in line.split("; ") if name)

"""What somebody does by saying a sentence: asks for a change, asks a question, forbids, reports, supposes.

A change is proposed only for what is said outright to the assistant. What others said, what would be if, what should
not be and what was merely asked about is never a change.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["command", "question", "negated", "reported", "supposed", "tentative", "bypass", "plain"]

_COURTESY: Final = re.compile(
    r"(?:[\s,.:;!-]*(?:"
    r"please|pls|plz|kindly|hi(?: there)?|hello|hallo|hey|dear (?:assistant|pmis|all|team)|good (?:morning|"
    r"afternoon|evening)|"
    r"assistant|pmis|bot|team|ok|okay|alright|all right|right|well|so|yes|yeah|yep|sure|great|perfect|cool|oh|um|uh|"
    r"(?:thanks|thank you)(?: very much| so much| a lot| again)?|thx|and|then|also|now|just|quickly|"
    r"first(?: of all)?|firstly|finally|next|lastly|actually|"
    r"after that|afterwards|by the way|btw|quick question|question|today|fyi|urgent|asap|"
    r"if (?:possible|you (?:can|could|would|please|don't mind|like)|it's not too much trouble)|"
    r"when(?:ever)? you (?:can|get a chance|have a (?:moment|minute|second))|"
    r"as (?:discussed|agreed|planned|mentioned|usual|always)(?: (?:yesterday|today|in the meeting|last week|"
    r"before|earlier))?"
    r")(?![\w'-]))+[\s,.:;!-]*"
)
_REQUEST: Final = re.compile(
    r"(?:go ahead and|any chance (?:that )?you (?:could|can|would)|(?:i|we)(?= need an? (?:new )?(?:task|"
    r"package|work package|vendor|customer|ticket|to-?do))|(?:would|do) (?:you|u) mind(?: please)?|(?:i was|"
    r"i am|i'm|was|we were) (?:just )?wondering (?:if|whether) you (?:could|can|would)|"
    r"would you be (?:able|so kind as|kind enough|willing) to|(?:could|can|would|will) (?:you|u|ya)(?: please|"
    r" kindly| just| perhaps| maybe| possibly| also| then| quickly| be so kind as to| be so kind and| be able to)*|"
    r"would it be (?:possible|ok|okay) (?:for you )?to|"
    r"do you think you (?:could|can)|"
    r"(?:i|we)(?:'d| would) (?:really )?(?:like|love) (?:you |for you |to ask you )?to|(?:i|we) (?:want|wish|"
    r"need) (?:you )?to|"
    r"(?:i|we)(?:'d| would)? (?:want|need|like)(?= (?!to\b|a\b|an\b|the (?:list|status|total|sum|number|"
    r"overview|report|summary|details?)\b|all\b|help\b|information\b|details?\b|an?\b))|"
    r"i(?:'m| am) asking you to|i ask you to|(?:may|can|could|might) i ask you to|i (?:said|told you to)|"
    r"(?:we|i) (?:must|have to|have got to|gotta)|you (?:can|may|must|need to|have to)(?: now)?|"
    r"let's|let us|lets|make sure (?:to|that you|you)|be sure to|be so kind (?:as to|and)|be kind enough to|"
    r"feel free to|"
    r"help me(?: to)?|remember to|(?:do not|don't) forget to|it(?:'s| is) time to|time to|it is necessary to|"
    r"(?:i|we)(?:'d| would) (?:appreciate it|be (?:grateful|thankful|glad|happy|pleased)) if (?:you|"
    r"we) (?:could|would|can)|"
    r"it would be (?:great|nice|good|helpful|lovely|wonderful|awesome|ideal|best) if (?:you|we) (?:could|would|can)|"
    r"i(?:'d| would) like to request(?: you)? to|i(?:'d| would) like to propose to|i propose to|propose to|"
    r"i request you to|you are requested to|"
    r"can we please|could we please|can i please|could i please|may we please|shall we please|we(?:'re|"
    r" are) going to|i(?:'m| am) going to|do(?= please| (?:cancel|put|set|move|award|submit|start|close|complete))|"
    r"proceed to|proceed and|please do)(?![\w'-])"
)
_INTERROGATIVE: Final = re.compile(
    r"(?:what|whats|which|who|whos|whom|whose|when|whens|where|wheres|why|how|hows|is|are|was|were|am|has|had|"
    r"does|did|can|could|may|might|"
    r"should|shall|would|will|must|isn't|aren't|wasn't|weren't|hasn't|haven't|hadn't|didn't|doesn't|"
    r"don't (?:i|we|you|they)|won't|can't|couldn't|"
    r"shouldn't|wouldn't|any|anything|anyone|anybody|do (?:i|we|you|they|any|all|the|our|my)|have (?:i|we|you|"
    r"they|any|all|the|our|my|there)|"
    r"ever|since when|until when|by when|by whom|in which|on which|for which|for how|to whom|from whom|"
    r"of which|with whom|at what|in what|since what|what about|how about)(?:'s|'re|'d|'ve|'ll)?(?![\w-])"
)
_INFORM: Final = re.compile(
    r"(?:tell|let|show|give|get|remind|inform|brief|update|fill|walk|send) (?:me|us)\b(?! (?:as|the owner|"
    r"in charge|responsible))|"
    r"(?:i|we)(?:'d| would)? (?:like|want|need|love|wish) to (?:know|see|understand|find out|get|check|hear|"
    r"have|learn|look|view)\b|"
    r"(?:do|does|can|could) (?:you|anyone|anybody|somebody|someone) (?:know|remember|recall|say)\b|(?:i|"
    r"we)(?:'m| am|'re| are| was| were)? (?:wonder|wondering|curious|interested|looking for|searching for|"
    r"unsure|not sure)\b|"
    r"any idea|any news|i need (?:a|an|the) (?:list|overview|report|summary|total|breakdown|status|number|"
    r"count|update)|"
    r"(?:i|we)(?:'d| would) (?:like|love) (?:a|an|the) (?:list|overview|report|summary|total|breakdown|status|"
    r"number|count|update)|"
    r"(?:can|could|may|might) (?:i|we) (?:see|get|have|know|look|view|find|check|ask)\b"
)
_NEGATION: Final = re.compile(
    r"(?<![\w'])(?:do not|don't|dont|do n't|never|cannot|can not|can't|won't|will not|should not|shouldn't|"
    r"must not|mustn't|"
    r"need not|needn't|no need to|not|refrain from|avoid|hold off|rather not|under no circumstances|"
    r"by no means|neither|nor|"
    r"may not|is not to|are not to|nobody|no one|no longer|instead of|rather than|except|besides|apart from|"
    r"other than|all but|"
    r"excluding|without|doesn't|does not|didn't|isn't|aren't|wasn't|stop)(?![\w'])"
)
_REPORTED: Final = re.compile(
    r"(?<![\w'])(?:said|says|saying|told|tells|asked|asks|asking|wrote|writes|wants|wanted|mentioned|mentions|"
    r"claims|claimed|suggested|"
    r"suggests|thinks|believes|according to|heard|requested|requests that|instructed|instructs|ordered|"
    r"demanded|demands|insists|insisted|recommends|"
    r"recommended|stated|states that|announced|reads|would like us|would like me|would have us|quote|quoted|"
    r"quoting|emailed|mailed|forwarded|hopes|hoped|decided|expects|prefers|needs us|needs me|begs|begged|"
    r"urged|urges)(?![\w'])|"
    r"^(?:fwd?|fw|re|subject|from|aw|wg)\s?:|^(?:an? |the )?(?:message|note|mail|e-?mail|letter|word|"
    r"request) from\b|(?<![\w'])(?:the |an? |this )?(?:mail|e-mail|email|letter|document|note|message|file|"
    r"pdf|attachment|text|minutes) (?:say|read|state|contain|ask|tell|mention)"
)
_SUPPOSED: Final = re.compile(
    r"(?<![\w'])(?:if|unless|once|as soon as|provided|in case|assuming|suppose|supposing|hypothetically|"
    r"imagine|pretend|"
    r"whenever|were to|what if|in the event|would have|could have|should have|depending on|contingent|"
    r"only when|when|after|before)(?![\w'])"
)
_TENTATIVE: Final = re.compile(
    r"(?<![\w'])(?:maybe|perhaps|might|i think|i guess|i believe|i feel|i suppose|we should|i should|we could|i could|"
    r"possibly|considering|consider|thinking about|thinking of|think about|planning to|plan to|"
    r"hoping to|hope to|tempted to|inclined to|not sure|unsure|probably|eventually|some day|someday|sometime|"
    r"at some point|"
    r"they should|should probably|would rather|could be|should be|can be|may be|would be|one day|later maybe|"
    r"intend to|about to)(?![\w'])"
)
_BYPASS: Final = re.compile(
    r"(?<![\w'])(?:ignore|disregard|forget|override|bypass|skip|circumvent|overrule|disable|evade|get around|"
    r"turn off|switch off|suspend)\b.{0,60}?"
    r"\b(?:rules?|instructions?|polic(?:y|ies)|approvals?|prompts?|guidelines?|restrictions?|checks?|"
    r"safeguards?|guardrails?|limits?|permissions?)\b|"
    r"\bwithout (?:any |an |the |asking for |needing |waiting for |further )*(?:approvals?|confirmation|"
    r"asking|permission|review|anyone|telling|a trace|logging)\b|"
    r"(?<![\w'])(?:you are now|act as|system prompt|developer mode|jailbreak|sudo|"
    r"as (?:an )?admin(?:istrator)?|on (?:his|her|their|behalf of)|in (?:his|her|\w+'s) name|pretend (?:to be|you))\b|"
    r"^(?:system|assistant|developer)\s?:"
)
_OUTSIDE: Final = re.compile(
    r"\b(?:weather|jokes?|poems?|songs?|recipes?|flights?|hotels?|lottery|football|horoscope|"
    r"(?:reset|forgot|change) (?:my |the )?password)\b"
)
_WHEN_DATED: Final = re.compile(r"(?<![\w'])(?:before|after|when)(?![\w'])")


@dataclass(frozen=True, slots=True)
class Stance:
    """What is done by a sentence. `begin` is where its words begin, after courtesies."""

    kind: Kind
    begin: int = 0
    is_request: bool = False
    """Whether somebody is asked outright to do it ("could you", "please")."""


def courtesy(low: str) -> tuple[int, bool]:
    """Where a sentence begins after its courtesies, and whether these ask somebody to do something."""
    at, asked = 0, False
    while at < len(low):
        polite = _COURTESY.match(low, at)
        if polite is not None and polite.end() > at:
            asked = asked or re.search(r"please|pls|plz|kindly", polite[0]) is not None
            at = polite.end()
            continue
        request = _REQUEST.match(low, at)
        if request is None:
            break
        asked = True
        at = request.end()
        while at < len(low) and low[at] in " ,":
            at += 1
    return at, asked


def is_negated(text: str) -> bool:
    """Whether something is denied or forbidden in the text, the names of statuses taken out of it."""
    return _NEGATION.search(text) is not None


def is_bypass(text: str) -> bool:
    """Whether the text asks to go round the rules, or to act as somebody else."""
    return _BYPASS.search(text) is not None


def is_outside(text: str) -> bool:
    """Whether the text asks for something that has nothing to do with the records."""
    return _OUTSIDE.search(text) is not None


def is_reported(text: str) -> bool:
    """Whether the text tells what somebody else said."""
    return _REPORTED.search(text) is not None


def is_supposed(text: str, *, dated: bool) -> bool:
    """Whether the text speaks of what would be if; before and after a date are no suppositions."""
    kept = re.sub(
        r"if (?:possible|you (?:can|could|would|please|don't mind|like)|we can)|as soon as possible|"
        r"when(?:ever)? you (?:can|get a chance|have a (?:moment|minute|second))|when possible",
        " ",
        text,
    )
    found = _SUPPOSED.search(kept)
    return found is not None and not (dated and _WHEN_DATED.fullmatch(found[0]) is not None)


def is_tentative(text: str, *, asked: bool) -> bool:
    """Whether the text only considers something; who asks for it outright only does so politely."""
    found = _TENTATIVE.search(text)
    return found is not None and not (
        asked and found[0] in ("should be", "maybe", "perhaps", "possibly", "can be", "could be")
    )


def is_question(low: str, begin: int, *, asked: bool) -> bool:
    """Whether a sentence that begins there asks to be told something."""
    rest = low[begin:]
    if _INFORM.match(rest):
        return True
    if _INTERROGATIVE.match(rest):
        return True
    return low.rstrip().endswith("?") and not asked

//! Questions to the hook, and what waits for their answers.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidecast_broker::Withheld;
use tidecast_broker::auth::{Changes, Event, Grant, Ruling, Verdict};
use tidecast_websocket::Millis;

use crate::hook::{Asker, Hook, Question};
use crate::verdicts::{Verdicts, Who};

/// A question that has to be asked before the command at hand can go on.
#[derive(Debug)]
struct Wanted {
    slot: u32,
    event: Event,
    name: Box<str>,
    identity: Option<Arc<str>>,
}

/// What a connection waits for.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// The number of the question.
    number: u32,
    event: Event,
    name: Box<str>,
    who: Who,
    /// When there is no answer to be expected any more.
    pub(crate) until: Millis,
    /// How many were asked before the one that is.
    hooks: u32,
    /// What is to be done again.
    pub(crate) command: Command,
    /// Answers that there are: to earlier questions about the same command, and in the end to this one.
    answers: Vec<(Event, Ruling)>,
    /// The answer is among them.
    pub(crate) is_answered: bool,
}

/// What is done again when it is known whether it may be.
#[derive(Debug)]
pub(crate) enum Command {
    /// A request head, which stands at the start of what was received.
    Head,
    /// A text message.
    Text(String),
    /// What is left of a binary message.
    Binary(Vec<u8>),
    /// The body of a request, which the connection keeps.
    Body,
}

/// One worker's questions.
pub(crate) struct Asking {
    /// Who is asked; nobody any more, if there is none.
    hook: Option<Arc<dyn Hook>>,
    /// Counts who was asked, one after the other.
    hooks: u32,
    worker: u16,
    verdicts: Verdicts,
    /// The number of the next question.
    next: u32,
    /// Questions whose answers have not come.
    open: usize,
    /// How many there can be: so many answers fit into the worker's box.
    most: usize,
    /// The connection at hand, where its client is, and what is known about its command.
    generation: u32,
    address: IpAddr,
    now: Millis,
    answers: Vec<(Event, Ruling)>,
    wanted: Option<Wanted>,
    /// It has come, and been counted, before.
    is_again: bool,
}

impl Asking {
    pub(crate) fn new(hook: Arc<dyn Hook>, worker: u16, most: usize) -> Asking {
        Asking {
            verdicts: Verdicts::new(hook.kept()),
            hook: Some(hook),
            hooks: 0,
            worker,
            next: 0,
            open: 0,
            most,
            generation: 0,
            address: Ipv4Addr::UNSPECIFIED.into(),
            now: Millis(0),
            answers: Vec::new(),
            wanted: None,
            is_again: false,
        }
    }

    /// Somebody else is asked from now on, or nobody. Questions that are on their way are still answered by who was asked.
    pub(crate) fn set_hook(&mut self, hook: Option<&Arc<dyn Hook>>) {
        let is_same = match (&self.hook, hook) {
            (Some(ours), Some(hook)) => Arc::ptr_eq(ours, hook),
            (ours, hook) => ours.is_none() && hook.is_none(),
        };
        if !is_same {
            self.verdicts = Verdicts::new(hook.map_or(0, |hook| hook.kept()));
            self.hook = hook.cloned();
            self.hooks = self.hooks.wrapping_add(1);
        }
    }

    /// Whether `event` is asked about.
    pub(crate) fn wants(&self, event: Event) -> bool {
        self.hook.as_ref().is_some_and(|hook| hook.wants(event))
    }

    /// What follows is about the connection of this generation, whose client is at `address`.
    pub(crate) fn begin(&mut self, generation: u32, address: IpAddr, now: Millis) {
        (self.generation, self.address, self.now) = (generation, address, now);
        self.answers.clear();
        self.wanted = None;
        self.is_again = false;
    }

    /// The command at hand is done again, these answers being known.
    pub(crate) fn begin_again(&mut self, waiting: &Waiting) {
        self.answers.clone_from(&waiting.answers);
        self.is_again = true;
    }

    /// Whether the command at hand has been counted before. Said once.
    pub(crate) fn take_again(&mut self) -> bool {
        std::mem::take(&mut self.is_again)
    }

    /// Whether `event` with the topic or filter `name` may happen to the connection at hand, which has `slot` and `grant`;
    /// perhaps with changes to that.
    ///
    /// # Errors
    /// It may not. What is unknown is to be [asked](Asking::ask), and to be done again when there is an answer.
    pub(crate) fn consult(
        &mut self,
        slot: u32,
        event: Event,
        name: &str,
        grant: &Grant,
    ) -> Result<Option<Box<Changes>>, Withheld> {
        let denied = |reason: &str| Withheld::Refused(reason.to_owned().into());
        if !self.wants(event) {
            return Ok(None);
        }
        // Good for one command; the next one of a message is another question.
        if let Some(at) = self.answers.iter().position(|(about, _)| *about == event) {
            return match self.answers.swap_remove(at).1 {
                Ruling::Allow(changes) => Ok(changes),
                Ruling::Deny(reason) => Err(denied(&reason)),
            };
        }
        let who = self.who(slot, grant.identity.as_ref());
        match self.verdicts.get(&who, event, name, self.now) {
            Some(Ok(())) => Ok(None),
            Some(Err(reason)) => Err(denied(reason)),
            None => {
                self.wanted = Some(Wanted {
                    slot,
                    event,
                    name: name.into(),
                    identity: grant.identity.clone(),
                });
                Err(Withheld::Unknown)
            }
        }
    }

    fn who(&self, slot: u32, identity: Option<&Arc<str>>) -> Who {
        match identity {
            Some(identity) => Who::Identity(Arc::clone(identity)),
            None => Who::Connection(slot, self.generation, self.address),
        }
    }

    /// Asks what was wanted last, for a connection called `session` from `address`: it waits for that from now on. `again` is what it
    /// waited for before, if the same command has been asked about. The verdict comes at once if nobody can be asked.
    pub(crate) fn ask(
        &mut self,
        (session, address): (String, IpAddr),
        command: Command,
        again: Option<Waiting>,
    ) -> Option<(Waiting, Option<Verdict>)> {
        let Wanted {
            slot,
            event,
            name,
            identity,
        } = self.wanted.take()?;
        let hook = self.hook.as_ref()?;
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let waiting = Waiting {
            number,
            event,
            who: self.who(slot, identity.as_ref()),
            until: self.now + hook.patience().into(),
            answers: match (&command, again) {
                // A head has several questions, and all their answers are needed in the end.
                (Command::Head, Some(again)) => again.answers,
                _ => Vec::new(),
            },
            command,
            hooks: self.hooks,
            is_answered: false,
            name: name.clone(),
        };
        let question = Question {
            asker: Asker {
                worker: self.worker,
                slot,
                number,
            },
            event,
            session: session.into(),
            identity,
            address,
            topic: (!name.is_empty()).then_some(name),
            asked: Instant::now(),
        };
        let verdict = if self.open < self.most {
            hook.ask(question).err()
        } else {
            Some(hook.unanswered())
        };
        self.open += usize::from(verdict.is_none());
        Some((waiting, verdict))
    }

    /// Tells that a connection has gone.
    pub(crate) fn tell_gone(
        &self,
        slot: u32,
        connection: impl FnOnce() -> (String, IpAddr),
        identity: Option<&Arc<str>>,
    ) {
        if let Some(hook) = self.hook.as_ref().filter(|hook| hook.wants(Event::Disconnect)) {
            let (session, address) = connection();
            let question = Question {
                asker: Asker {
                    worker: self.worker,
                    slot,
                    number: self.next,
                },
                event: Event::Disconnect,
                session: session.into(),
                identity: identity.cloned(),
                address,
                topic: None,
                asked: Instant::now(),
            };
            // Nothing hangs on it: if there is no room it is not told.
            let _ = hook.ask(question);
        }
    }

    /// An answer has come, to whatever question.
    pub(crate) fn handle_answer(&mut self) {
        self.open -= 1;
    }

    /// What is the answer if none comes: what nobody is asked about any more is permitted.
    pub(crate) fn unanswered(&self) -> Verdict {
        let hook = self.hook.as_ref();
        hook.map_or(Verdict::allow(Duration::ZERO), |hook| hook.unanswered())
    }

    /// Keeps what is worth keeping of an answer, unless somebody else is asked by now.
    pub(crate) fn keep(&mut self, waiting: &Waiting, verdict: &Verdict, now: Millis) {
        if !verdict.fresh.is_zero() && waiting.hooks == self.hooks {
            let until = now + verdict.fresh.into();
            self.verdicts.keep(
                waiting.who.clone(),
                waiting.event,
                &waiting.name,
                &verdict.ruling,
                until,
            );
        }
    }
}

impl Waiting {
    /// Whether this is the question of that number.
    pub(crate) fn is(&self, number: u32) -> bool {
        self.number == number && !self.is_answered
    }

    /// Octets that it holds.
    pub(crate) fn memory(&self) -> usize {
        let command = match &self.command {
            Command::Head | Command::Body => 0,
            Command::Text(text) => text.capacity(),
            Command::Binary(bytes) => bytes.capacity(),
        };
        command + self.name.len()
    }

    /// The number of the question.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// This is the answer.
    pub(crate) fn answer(&mut self, ruling: Ruling) {
        self.answers.push((self.event, ruling));
        self.is_answered = true;
    }
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Asking({} open)", self.open)
    }
}

#[cfg(all(test, not(loom)))]
pub(crate) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A hook that notes what it is asked, as long as it has room.
    #[derive(Debug, Default)]
    pub(crate) struct Notes {
        pub(crate) asked: Mutex<Vec<Question>>,
        pub(crate) room: usize,
    }

    impl Hook for Notes {
        fn wants(&self, event: Event) -> bool {
            event != Event::Publish
        }

        fn ask(&self, question: Question) -> Result<(), Verdict> {
            let mut asked = self.asked.lock().unwrap();
            if asked.len() == self.room {
                return Err(self.unanswered());
            }
            asked.push(question);
            Ok(())
        }

        fn unanswered(&self) -> Verdict {
            Verdict::deny("nobody knows", Duration::ZERO)
        }

        fn patience(&self) -> Duration {
            Duration::from_secs(3)
        }

        fn kept(&self) -> usize {
            100
        }
    }

    fn ann() -> Grant {
        Grant {
            identity: Some("ann".into()),
            ..Grant::everything()
        }
    }

    fn asking(room: usize, most: usize) -> (Asking, Arc<Notes>) {
        let notes = Arc::new(Notes {
            room,
            ..Notes::default()
        });
        let hook: Arc<dyn Hook> = Arc::clone(&notes) as _;
        (Asking::new(hook, 1, most), notes)
    }

    const WAIT: Result<Option<Box<Changes>>, Withheld> = Err(Withheld::Unknown);

    fn here() -> (String, IpAddr) {
        ("s".to_owned(), IpAddr::from([192, 0, 2, 1]))
    }

    fn command() -> Command {
        Command::Text(String::new())
    }

    #[test]
    fn what_is_not_known_is_asked_and_done_again_with_the_answer() {
        let (mut asking, notes) = asking(10, 10);
        asking.begin(0, here().1, Millis(5));
        assert_eq!(asking.consult(7, Event::Publish, "a", &ann()), Ok(None));
        assert_eq!(asking.consult(7, Event::Subscribe, "a", &ann()), WAIT);
        let (mut waiting, verdict) = asking.ask(here(), command(), None).expect("it is wanted");
        assert!(verdict.is_none());
        assert_eq!(waiting.until, Millis(3005));
        {
            let asked = notes.asked.lock().unwrap();
            assert_eq!((asked[0].asker.slot, asked[0].asker.worker), (7, 1));
            assert_eq!(asked[0].address, here().1);
            assert_eq!(
                (asked[0].topic.as_deref(), asked[0].identity.as_deref()),
                (Some("a"), Some("ann"))
            );
        }
        assert!(waiting.is(waiting.number()) && !waiting.is(waiting.number() + 1));
        asking.handle_answer();
        asking.keep(&waiting, &Verdict::deny("no", Duration::ZERO), Millis(6));
        waiting.answer(Verdict::deny("no", Duration::ZERO).ruling);
        asking.begin(0, here().1, Millis(6));
        asking.begin_again(&waiting);
        assert!(asking.take_again() && !asking.take_again(), "it is counted once");
        assert_eq!(
            asking.consult(7, Event::Subscribe, "a", &ann()),
            Err(Withheld::Refused("no".into()))
        );
        assert_eq!(
            asking.consult(7, Event::Subscribe, "a", &ann()),
            WAIT,
            "it was good once"
        );
    }

    #[test]
    fn an_answer_that_may_be_kept_is_not_asked_for_again() {
        let (mut asking, notes) = asking(10, 10);
        for (slot, grant, asks) in [
            (1, ann(), true),
            (2, ann(), false),
            (3, Grant::everything(), true),
            (4, Grant::everything(), true),
        ] {
            asking.begin(0, here().1, Millis(0));
            let consulted = asking.consult(slot, Event::Subscribe, "a", &grant);
            assert_eq!(consulted == WAIT, asks, "{slot}");
            if let Some((waiting, _)) = asking.ask(here(), command(), None) {
                asking.handle_answer();
                asking.keep(&waiting, &Verdict::allow(Duration::from_secs(9)), Millis(0));
            }
        }
        assert_eq!(notes.asked.lock().unwrap().len(), 3);
        asking.begin(0, here().1, Millis(8_999));
        assert_eq!(asking.consult(3, Event::Subscribe, "a", &Grant::everything()), Ok(None));
        asking.begin(1, here().1, Millis(8_999));
        let next = asking.consult(3, Event::Subscribe, "a", &Grant::everything());
        assert_eq!(next, WAIT, "somebody else has the slot");
    }

    #[test]
    fn a_head_keeps_the_answers_to_all_its_questions() {
        let (mut asking, _) = asking(10, 10);
        asking.begin(0, here().1, Millis(0));
        assert_eq!(asking.consult(1, Event::Connect, "a", &ann()), WAIT);
        let (mut first, _) = asking.ask(here(), Command::Head, None).expect("it is wanted");
        first.answer(Verdict::allow(Duration::ZERO).ruling);
        asking.begin(0, here().1, Millis(1));
        asking.begin_again(&first);
        assert_eq!(asking.consult(1, Event::Connect, "a", &ann()), Ok(None));
        assert_eq!(asking.consult(1, Event::Subscribe, "a", &ann()), WAIT);
        let (mut second, _) = asking.ask(here(), Command::Head, Some(first)).expect("it is wanted");
        second.answer(Verdict::allow(Duration::ZERO).ruling);
        asking.begin(0, here().1, Millis(2));
        asking.begin_again(&second);
        assert_eq!(asking.consult(1, Event::Connect, "a", &ann()), Ok(None));
        assert_eq!(asking.consult(1, Event::Subscribe, "a", &ann()), Ok(None));
    }

    #[test]
    fn when_nobody_can_be_asked_the_answer_comes_at_once() {
        for (room, most) in [(1, 10), (10, 1)] {
            let (mut asking, _) = asking(room, most);
            let mut ask = || {
                asking.begin(0, here().1, Millis(0));
                assert_eq!(asking.consult(1, Event::Subscribe, "a", &ann()), WAIT);
                asking.ask(here(), command(), None).expect("it is wanted").1
            };
            assert_eq!(ask(), None);
            assert_eq!(
                ask(),
                Some(Verdict::deny("nobody knows", Duration::ZERO)),
                "room {room}, most {most}"
            );
            if most == 1 {
                asking.handle_answer();
                asking.begin(0, here().1, Millis(0));
                assert_eq!(asking.consult(1, Event::Subscribe, "a", &ann()), WAIT);
                assert!(asking.ask(here(), command(), None).expect("it is wanted").1.is_none());
            }
        }
    }

    #[test]
    fn another_hook_is_asked_anew_and_none_permits_everything() {
        let (mut asking, first) = asking(10, 1);
        let ask = |asking: &mut Asking| {
            asking.begin(0, here().1, Millis(0));
            assert_eq!(asking.consult(1, Event::Subscribe, "a", &ann()), WAIT);
            asking.ask(here(), command(), None).expect("it is wanted")
        };
        let (earlier, _) = ask(&mut asking);
        let same: Arc<dyn Hook> = Arc::clone(&first) as _;
        asking.set_hook(Some(&same));
        asking.keep(&earlier, &Verdict::allow(Duration::from_secs(9)), Millis(0));
        assert_eq!(
            asking.consult(1, Event::Subscribe, "a", &ann()),
            Ok(None),
            "it is the same"
        );
        let second = Arc::new(Notes {
            room: 10,
            ..Notes::default()
        });
        asking.set_hook(Some(&(Arc::clone(&second) as _)));
        asking.keep(&earlier, &Verdict::allow(Duration::from_secs(9)), Millis(0));
        let (_, verdict) = ask(&mut asking);
        assert!(
            verdict.is_some(),
            "the answer to the first has not come, and there is no room for two"
        );
        asking.handle_answer();
        assert_eq!(ask(&mut asking).1, None);
        assert_eq!(
            (first.asked.lock().unwrap().len(), second.asked.lock().unwrap().len()),
            (1, 1)
        );
        asking.set_hook(None);
        assert_eq!(asking.consult(1, Event::Subscribe, "a", &ann()), Ok(None));
        assert_eq!(asking.unanswered().ruling, Ruling::Allow(None));
        // The answer of who was asked last comes all the same.
        asking.handle_answer();
    }
}

//! What is known of a setting besides its value, and the macro that makes a struct and that knowledge of one text.

use super::kind::{Kind, Shape, Written};

/// A setting, as whoever reads, writes or explains settings needs to know it.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// Its name in the file.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// What stands for its value in the help.
    pub value_name: &'static str,
    /// How it may be given.
    pub shape: Shape,
    /// Every value there can be, with what it means, where these are few.
    pub choices: &'static [(&'static str, &'static str)],
    /// Has to be given.
    pub is_required: bool,
    /// A running broker takes a change over when it reloads its configuration.
    pub is_live: bool,
}

/// A struct of settings.
pub(crate) trait Fields {
    /// Sets number `index` to what was written.
    ///
    /// # Errors
    /// What is wrong with it and what to give.
    fn read(&mut self, index: usize, written: &Written<'_>) -> Result<(), String>;

    /// Number `index` in TOML; none if it is left open.
    fn write(&self, index: usize) -> Option<String>;

    /// Whether number `index` has the value that it has in `other`.
    fn is_same(&self, index: usize, other: &Self) -> bool
    where
        Self: Sized;

    /// Gives number `index` the value that it has in `other`.
    fn keep(&mut self, index: usize, other: &Self)
    where
        Self: Sized;
}

/// Reads a value and checks that it is in a range.
pub(crate) fn read<K: Kind>(
    written: &Written<'_>,
    range: Option<(K::Item, K::Item)>,
    compare: fn(&K::Item, &K::Item) -> Option<std::cmp::Ordering>,
) -> Result<K::Value, String> {
    let value = K::read(written)?;
    let Some((least, most)) = range else {
        return Ok(value);
    };
    let mut outside = None;
    K::items(&value, &mut |item| {
        let within = compare(item, &least).is_some_and(std::cmp::Ordering::is_ge)
            && compare(item, &most).is_some_and(std::cmp::Ordering::is_le);
        if !within {
            outside = Some(K::write_item(item));
        }
    });
    let bare = |text: String| text.trim_matches('"').to_owned();
    match outside {
        None => Ok(value),
        Some(found) => Err(format!(
            "{} is out of range: give {} to {}",
            bare(found),
            bare(K::write_item(&least)),
            bare(K::write_item(&most))
        )),
    }
}

/// Defines a struct of settings: each with its documentation, name, kind, default, and perhaps the range `least => most`.
/// `[live]` marks those that a running broker takes over, `[required]` those that have no default.
macro_rules! fields {
    (
        $(#[$attribute:meta])*
        pub struct $record:ident {
            $(
                $(#[doc = $doc:literal])+
                $([$mark:ident])*
                $name:ident: $kind:ty = $default:expr $(, $least:expr => $most:expr)?;
            )+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug)]
        pub struct $record {
            $($(#[doc = $doc])+ pub $name: <$kind as $crate::config::kind::Kind>::Value,)+
        }

        impl Default for $record {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl $record {
            /// What is known of its settings.
            pub const METAS: &[$crate::config::field::Meta] = &[
                $($crate::config::field::Meta {
                    name: stringify!($name),
                    doc: concat!($($doc, "\n"),+),
                    value_name: <$kind as $crate::config::kind::Kind>::NAME,
                    shape: <$kind as $crate::config::kind::Kind>::SHAPE,
                    choices: <$kind as $crate::config::kind::Kind>::CHOICES,
                    is_required: false $(|| fields!(@is_required $mark))*,
                    is_live: false $(|| fields!(@is_live $mark))*,
                },)+
            ];
        }

        impl $crate::config::field::Fields for $record {
            fn read(&mut self, index: usize, written: &$crate::config::kind::Written<'_>) -> Result<(), String> {
                let mut at = 0;
                $(
                    if index == at {
                        let range = fields!(@range $($least => $most)?);
                        self.$name =
                            $crate::config::field::read::<$kind>(written, range, fields!(@compare $($least)?))?;
                        return Ok(());
                    }
                    at += 1;
                )+
                unreachable!("setting {index} of {at}")
            }

            fn write(&self, index: usize) -> Option<String> {
                let mut at = 0;
                $(
                    if index == at {
                        return <$kind as $crate::config::kind::Kind>::write(&self.$name);
                    }
                    at += 1;
                )+
                unreachable!("setting {index} of {at}")
            }

            fn is_same(&self, index: usize, other: &Self) -> bool {
                [$(self.$name == other.$name),+][index]
            }

            fn keep(&mut self, index: usize, other: &Self) {
                let mut at = 0;
                $(
                    if index == at {
                        self.$name.clone_from(&other.$name);
                        return;
                    }
                    at += 1;
                )+
                unreachable!("setting {index} of {at}")
            }
        }
    };
    (@is_required required) => { true };
    (@is_required live) => { false };
    (@is_live live) => { true };
    (@is_live required) => { false };
    (@range) => { None };
    (@range $least:expr => $most:expr) => { Some(($least, $most)) };
    (@compare) => { |_, _| None };
    (@compare $least:expr) => { |one, other| one.partial_cmp(other) };
}
pub(crate) use fields;

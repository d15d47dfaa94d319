//! Which batch a command is about.

use std::path::PathBuf;
use std::str::FromStr;

use harmony_api::BatchName;

/// A batch, as people name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BatchRef {
    /// The folder of a batch on this machine.
    Folder(PathBuf),
    /// The name of a batch on the cluster of the kubeconfig.
    Name(String),
}

impl FromStr for BatchRef {
    type Err = String;

    /// A slash tells a folder from a name, whatever exists: a script must not depend on its working folder.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') || text == "." || text == ".." {
            Ok(Self::Folder(PathBuf::from(text)))
        } else if BatchName::new(text).is_some() {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(format!(
                "expected the name of a batch on the cluster, or a folder with a slash, such as ./{text}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_tells_a_folder_from_a_name() {
        let folder = |text: &str| Ok(BatchRef::Folder(PathBuf::from(text)));
        for text in ["./x", "a/b", "/x", "x.harmony/", ".", "..", "../x"] {
            assert_eq!(text.parse(), folder(text), "{text}");
        }
        for text in ["x", "render-2", "x.harmony", "a.b"] {
            assert_eq!(text.parse(), Ok(BatchRef::Name(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_may_be_meant_as_a_folder() {
        for text in ["My_Batch", "", "x y"] {
            let error = text.parse::<BatchRef>().unwrap_err();
            assert!(error.contains(&format!("./{text}")), "{error}");
        }
    }
}

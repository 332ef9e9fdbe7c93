//! Software modules: deployment units (TR-069 A.4.1.10, A.4.2.3, A.4.2.4).

use crate::{
    DateTime, DecodeError, FaultCode, Secret,
    soap::{Field, Reader, Writer, argument, structure},
};

structure! {
    /// Installs a deployment unit.
    Install within "InstallOpStruct" {
        /// Where it is; at most 1,024 characters.
        may url: String = "URL",
        /// Its UUID; the CPE makes one when there is none.
        may uuid: Option<String> = "UUID",
        /// For the file server.
        may username: Option<String> = "Username",
        /// For the file server.
        may password: Option<Secret> = "Password",
        /// The execution environment; the CPE's choice when there is none.
        may environment: Option<String> = "ExecutionEnvRef",
    }
}

structure! {
    /// Updates deployment units: one by UUID, all from a URL, or all.
    Update within "UpdateOpStruct" {
        /// Of which unit.
        may uuid: Option<String> = "UUID",
        /// From which version; at most 32 characters.
        may version: Option<String> = "Version",
        /// Where from; that of the installation when there is none.
        may url: Option<String> = "URL",
        /// For the file server.
        may username: Option<String> = "Username",
        /// For the file server.
        may password: Option<Secret> = "Password",
    }
}

structure! {
    /// Removes a deployment unit.
    Uninstall within "UninstallOpStruct" {
        /// Which.
        must uuid: String = "UUID",
        /// Which version; all when there is none.
        may version: Option<String> = "Version",
        /// From which execution environment; all when there is none.
        may environment: Option<String> = "ExecutionEnvRef",
    }
}

/// One operation of a ChangeDUState.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `cwmp:InstallOpStruct`.
    Install(Install),
    /// `cwmp:UpdateOpStruct`.
    Update(Update),
    /// `cwmp:UninstallOpStruct`.
    Uninstall(Uninstall),
}

impl Operation {
    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Install(install) => {
                writer.open_typed("Operations", "cwmp:InstallOpStruct");
                install.write_fields(writer);
            }
            Self::Update(update) => {
                writer.open_typed("Operations", "cwmp:UpdateOpStruct");
                update.write_fields(writer);
            }
            Self::Uninstall(uninstall) => {
                writer.open_typed("Operations", "cwmp:UninstallOpStruct");
                uninstall.write_fields(writer);
            }
        }
        writer.close("Operations");
    }

    /// The content of an element with this `xsi:type`.
    fn read(reader: &mut Reader<'_>, kind: &str) -> Result<Self, DecodeError> {
        match kind.rsplit(':').next().unwrap_or_default().trim() {
            "InstallOpStruct" => Install::read_fields(reader).map(Self::Install),
            "UpdateOpStruct" => Update::read_fields(reader).map(Self::Update),
            "UninstallOpStruct" => Uninstall::read_fields(reader).map(Self::Uninstall),
            _ => Err(argument("Operations", kind, "an operation by its xsi:type")),
        }
    }
}

/// Changes deployment units; DUStateChangeComplete tells the results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeDUState {
    /// In any order.
    pub operations: Vec<Operation>,
    /// Comes back with the results; at most 32 characters.
    pub command_key: String,
}

impl ChangeDUState {
    pub(crate) fn write_fields(&self, writer: &mut Writer) {
        for operation in &self.operations {
            operation.write(writer);
        }
        self.command_key.write("CommandKey", writer);
    }

    pub(crate) fn read_fields(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut request = Self::default();
        while let Some(child) = reader.child()? {
            match child.local_name().as_ref() {
                "Operations" => {
                    let kind = reader.attribute(&child, "type")?.unwrap_or_default();
                    request.operations.push(Operation::read(reader, &kind)?);
                }
                "CommandKey" => request.command_key = String::read(reader, "CommandKey")?,
                _ => reader.skip()?,
            }
        }
        if request.operations.is_empty() {
            return Err(DecodeError::Missing {
                element: "Operations",
                within: "ChangeDUState",
            });
        }
        Ok(request)
    }
}

structure! {
    /// The operations are taken.
    ChangeDUStateResponse within "ChangeDUStateResponse" {}
}

/// What became of a deployment unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnitState {
    /// It is there.
    Installed,
    /// It is gone.
    Uninstalled,
    /// The operation failed.
    #[default]
    Failed,
}

impl Field for UnitState {
    fn write(&self, name: &str, writer: &mut Writer) {
        let text = match self {
            Self::Installed => "Installed",
            Self::Uninstalled => "Uninstalled",
            Self::Failed => "Failed",
        };
        writer.leaf(name, text);
    }

    fn read(reader: &mut Reader<'_>, name: &str) -> Result<Self, DecodeError> {
        let text = reader.text()?;
        match text.trim() {
            // As TR-069 writes it in its text, and as the schema does.
            "Installed" => Ok(Self::Installed),
            "Uninstalled" | "UnInstalled" => Ok(Self::Uninstalled),
            "Failed" => Ok(Self::Failed),
            _ => Err(argument(name, &text, "Installed, Uninstalled or Failed")),
        }
    }
}

structure! {
    /// Why an operation failed.
    UnitFault within "Fault" {
        /// 0 when it succeeded.
        may code: FaultCode = "FaultCode",
        /// In words.
        may text: String = "FaultString",
    }
}

impl Field for UnitFault {
    fn write(&self, name: &str, writer: &mut Writer) {
        writer.open(name);
        self.write_fields(writer);
        writer.close(name);
    }

    fn read(reader: &mut Reader<'_>, _: &str) -> Result<Self, DecodeError> {
        Self::read_fields(reader)
    }
}

structure! {
    /// What an operation did to one deployment unit.
    OperationResult within "OpResultStruct" {
        /// Of the unit.
        must uuid: String = "UUID",
        /// Path of the unit in the data model.
        may unit: String = "DeploymentUnitRef",
        /// Of the unit; at most 32 characters.
        may version: String = "Version",
        /// What became of it.
        may state: UnitState = "CurrentState",
        /// Whether all that it depends on is there.
        may resolved: bool = "Resolved",
        /// Paths of its execution units, separated by commas.
        may execution_units: String = "ExecutionUnitRefList",
        /// When it began.
        may start_time: DateTime = "StartTime",
        /// When it ended.
        may complete_time: DateTime = "CompleteTime",
        /// Why it failed.
        may fault: UnitFault = "Fault",
    }
}

structure! {
    /// The same of an operation that the ACS did not ask for.
    AutonomousResult within "AutonOpResultStruct" {
        /// Of the unit.
        must uuid: String = "UUID",
        /// Path of the unit in the data model.
        may unit: String = "DeploymentUnitRef",
        /// Of the unit; at most 32 characters.
        may version: String = "Version",
        /// What became of it.
        may state: UnitState = "CurrentState",
        /// Whether all that it depends on is there.
        may resolved: bool = "Resolved",
        /// Paths of its execution units, separated by commas.
        may execution_units: String = "ExecutionUnitRefList",
        /// When it began.
        may start_time: DateTime = "StartTime",
        /// When it ended.
        may complete_time: DateTime = "CompleteTime",
        /// Why it failed.
        may fault: UnitFault = "Fault",
        /// `Install`, `Update` or `Uninstall`.
        may operation: String = "OperationPerformed",
    }
}

/// What the operations of a ChangeDUState did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DUStateChangeComplete {
    /// One or more for each operation.
    pub results: Vec<OperationResult>,
    /// Of the ChangeDUState.
    pub command_key: String,
}

impl DUStateChangeComplete {
    pub(crate) fn write_fields(&self, writer: &mut Writer) {
        for result in &self.results {
            writer.open("Results");
            result.write_fields(writer);
            writer.close("Results");
        }
        self.command_key.write("CommandKey", writer);
    }

    pub(crate) fn read_fields(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut request = Self::default();
        while let Some(child) = reader.child()? {
            match child.local_name().as_ref() {
                "Results" => request.results.push(OperationResult::read_fields(reader)?),
                "CommandKey" => request.command_key = String::read(reader, "CommandKey")?,
                _ => reader.skip()?,
            }
        }
        Ok(request)
    }
}

structure! {
    /// The ACS knows.
    DUStateChangeCompleteResponse within "DUStateChangeCompleteResponse" {}
}

/// What happened to deployment units without the ACS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AutonomousDUStateChangeComplete {
    /// One for each unit.
    pub results: Vec<AutonomousResult>,
}

impl AutonomousDUStateChangeComplete {
    pub(crate) fn write_fields(&self, writer: &mut Writer) {
        for result in &self.results {
            writer.open("Results");
            result.write_fields(writer);
            writer.close("Results");
        }
    }

    pub(crate) fn read_fields(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut request = Self::default();
        while let Some(child) = reader.child()? {
            match child.local_name().as_ref() {
                "Results" => request.results.push(AutonomousResult::read_fields(reader)?),
                _ => reader.skip()?,
            }
        }
        Ok(request)
    }
}

structure! {
    /// The ACS knows.
    AutonomousDUStateChangeCompleteResponse within "AutonomousDUStateChangeCompleteResponse" {}
}

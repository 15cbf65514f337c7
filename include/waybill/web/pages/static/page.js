// What HTML and htmx cannot do by themselves on Waybill's pages, a module a subject.
import "./modules/dialogs.js";
import "./modules/export_form.js";
import "./modules/leaving.js";
import "./modules/problems.js";
import "./modules/registration_form.js";
import "./modules/tables.js";
